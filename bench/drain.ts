/** How fast a standing backlog leaves, with a receipt for each message, against a bare stompjs publisher of the same frames. */
import { Broker, wireHeaders } from "drizzle-outbox/broker"
import { layerPolling, layerPostgres, migrate, runRelay } from "drizzle-outbox/relay"
import { layerStomp } from "drizzle-outbox/stomp"
import { Effect, Layer, Logger } from "effect"
import postgres from "postgres"
import { startPostgres } from "../test/support/embedded-postgres.ts"
import { startRabbit } from "../test/support/rabbitmq.ts"
import { type Frame, publishBare } from "./support/bare-publisher.ts"
import { type Bench, compare, median } from "./support/bench.ts"

const WINDOWS = [500, 1000, 2000, 4000]

export const bench: Bench = async ({ once, say }) => {
  const count = once ? 2000 : 50_000
  const repeats = once ? 1 : 5
  const server = await startPostgres({ shared_buffers: "512MB" })
  const rabbit = await startRabbit()
  const sql = postgres(server.url, { onnotice: () => {} })
  try {
    await Effect.runPromise(migrate(sql))
    const [version] = await sql`SHOW server_version`
    const cases = []
    for (const destination of ["/queue/bench", "/topic/bench"]) {
      const frames = await backlog(sql, count, destination)
      const clean = () => deleteQueue(rabbit.managementUrl, "bench")
      const bare = async (window: number) => {
        const rate = await publishBare(rabbit.stompUrl, frames, window)
        await clean()
        return rate
      }
      const ours = async () => {
        await fill(sql, count, destination)
        const rate = await drain(server.url, rabbit.stompUrl, count)
        await clean()
        return rate
      }
      say(`${destination}: warming up, and looking for the baseline's fastest window`)
      await ours()
      const rates = new Map<number, number>()
      for (const window of WINDOWS) {
        rates.set(
          window,
          median(once ? [await bare(window)] : [await bare(window), await bare(window), await bare(window)]),
        )
        say(`${destination}: bare stompjs, window ${window}: ${Math.round(rates.get(window)!)}/s`)
      }
      const window = WINDOWS.reduce((best, next) => (rates.get(next)! > rates.get(best)! ? next : best))
      cases.push(
        await compare(
          {
            once,
            say,
            name: "drain",
            case: `rabbitmq ${destination.split("/")[1]}`,
            repeats,
            settings: {
              messages: count,
              bodyBytes: frames[0]!.body.length,
              relayWindow: 1000,
              baselineWindow: window,
              node: process.version,
              postgresql: version?.["server_version"],
              shared_buffers: "512MB",
            },
          },
          ours,
          () => bare(window),
        ),
      )
    }
    return cases
  } finally {
    await sql.end()
    await server.remove()
    await rabbit.remove()
  }
}

/** Empties the outbox and writes `count` messages of about 200 bytes over 500 keys. */
const fill = async (sql: postgres.Sql, count: number, destination: string): Promise<void> => {
  await sql`TRUNCATE outbox.messages`
  await sql`
    INSERT INTO outbox.messages (event, operation, destination, key, body)
    SELECT 'orders', 'insert', ${destination}, 'customer-' || n % 500,
           json_build_object('order_id', n, 'status', 'placed', 'note', repeat('x', 150))::text
    FROM generate_series(1, ${count}::int) n ORDER BY n`
  await sql`VACUUM ANALYZE outbox.messages`
}

/** The frames that the relay will send, for the baseline. */
const backlog = async (
  sql: postgres.Sql,
  count: number,
  destination: string,
): Promise<ReadonlyArray<Frame>> => {
  await fill(sql, count, destination)
  const rows = await sql`SELECT * FROM outbox.messages ORDER BY position`
  return rows.map((row) => ({
    destination,
    body: row["body"],
    headers: {
      "content-type": row["content_type"],
      "amqp-message-id": row["id"],
      ...wireHeaders(
        {
          position: row["position"],
          id: row["id"],
          event: row["event"],
          eventId: row["event_id"],
          operation: row["operation"],
          destination,
          version: row["version"],
          key: row["key"],
          headers: row["headers"],
          createdAt: row["created_at"].toISOString(),
        },
        { django: true },
      ),
    },
  }))
}

/** Runs a relay until the outbox is drained: from its connection to the last recorded confirmation. */
const drain = async (database: string, url: string, count: number): Promise<number> => {
  let connectedAt = 0
  const broker = Layer.effect(
    Broker,
    Effect.map(Broker, ({ connect }) =>
      Broker.of({
        connect: (subscription) =>
          Effect.tap(connect(subscription), () =>
            Effect.sync(() => {
              connectedAt = performance.now()
            }),
          ),
      }),
    ),
  ).pipe(Layer.provide(layerStomp({ url })))
  const report = await Effect.runPromise(
    runRelay({ once: true }).pipe(
      Effect.provide(Layer.mergeAll(layerPostgres({ url: database }), broker, layerPolling)),
      Effect.provide(Logger.layer([])),
    ),
  )
  if (report.published !== count) throw new Error(`${report.published} of ${count} published`)
  return (count / (performance.now() - connectedAt)) * 1000
}

const deleteQueue = async (managementUrl: string, queue: string): Promise<void> => {
  const { protocol, host, username, password } = new URL(managementUrl)
  const authorization = `Basic ${Buffer.from(`${username || "guest"}:${password || "guest"}`).toString("base64")}`
  await fetch(`${protocol}//${host}/api/queues/%2F/${queue}`, {
    method: "DELETE",
    headers: { authorization },
  })
}
