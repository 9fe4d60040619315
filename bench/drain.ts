/** How fast a standing backlog leaves, with a receipt for each message, against a bare stompjs publisher of the same frames. */
import { Broker, wireHeaders } from "drizzle-outbox/broker"
import { layerPolling, layerPostgres, runRelay } from "drizzle-outbox/relay"
import { layerStomp } from "drizzle-outbox/stomp"
import { Effect, Layer, Logger } from "effect"
import type postgres from "postgres"
import { startRabbit } from "../test/support/rabbitmq.ts"
import { type Frame, publishBare } from "./support/bare-publisher.ts"
import { compare, interleave } from "./support/compare.ts"
import type { Lab, Question } from "./support/question.ts"
import { brokerVersion, startDatabase } from "./support/servers.ts"
import { median } from "./support/statistics.ts"

const WINDOWS = [500, 1000, 2000, 4000]

export const question: Question = {
  asks: "How fast does a standing backlog leave, with a receipt for each message?",
  minutes: 10,
  run: async (lab) => {
    const count = lab.once ? 2000 : 50_000
    const [database, rabbit] = await Promise.all([startDatabase(), startRabbit()])
    try {
      const broker = await brokerVersion(rabbit.stompUrl)
      for (const kind of ["queue", "topic"]) {
        const name = `rabbitmq ${kind}`
        await lab.measure(name, async () => {
          const frames = await backlog(database.sql, count, `/${kind}/bench`)
          const clean = () => deleteQueue(rabbit.managementUrl, "bench")
          const bare = async (window: number) => {
            const rate = await publishBare(rabbit.stompUrl, frames, window)
            await clean()
            return rate
          }
          const ours = async () => {
            await fill(database.sql, count, `/${kind}/bench`)
            const rate = await drain(database.url, rabbit.stompUrl, count)
            await clean()
            return rate
          }
          const window = await fastestWindow(lab, name, bare)
          return {
            ...(await compare(lab, { label: name }, ours, () => bare(window))),
            settings: {
              ...database.settings,
              broker,
              messages: count,
              bodyBytes: frames[0]!.body.length,
              relayWindow: 1000,
              baselineWindow: window,
            },
          }
        })
      }
    } finally {
      await database.remove()
      await rabbit.remove()
    }
  },
}

/** The window with which the baseline is fastest. */
const fastestWindow = async (
  lab: Lab,
  label: string,
  bare: (window: number) => Promise<number>,
): Promise<number> => {
  const contestants = Object.fromEntries(WINDOWS.map((window) => [`window ${window}`, () => bare(window)]))
  const rates = await interleave(lab, { label: `${label}, the baseline's windows`, repeats: 3 }, contestants)
  const rateOf = (window: number) => median(rates[`window ${window}`]!)
  return WINDOWS.reduce((best, next) => (rateOf(next) > rateOf(best) ? next : best))
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
