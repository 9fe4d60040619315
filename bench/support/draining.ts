/** A standing backlog and what drains it: a relay, or a bare publisher of the same frames. */
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import { Broker, wireHeaders } from "drizzle-outbox/broker"
import { layerPolling, layerPostgres, runRelay } from "drizzle-outbox/relay"
import { Effect, Layer, Logger } from "effect"
import { rawStomp } from "../../test/support/stomp-client.ts"
import type { Frame } from "./bare-publisher.ts"
import { interleave } from "./compare.ts"
import { fill } from "./fill.ts"
import { familyCpuSeconds } from "./processes.ts"
import type { Lab } from "./question.ts"
import type { Database } from "./servers.ts"
import { median, rounded } from "./statistics.ts"

export interface Backlog {
  readonly count: number
  readonly destination: string
  readonly bodyBytes: number
}

/** Empties the outbox and fills it anew. */
export const refill = async (
  database: Database,
  { count, destination, bodyBytes }: Backlog,
): Promise<void> => {
  await database.sql`TRUNCATE outbox.messages`
  await fill(database.sql, count, { destination, bodyBytes })
  await database.sql`VACUUM ANALYZE outbox.messages`
  await database.sql`CHECKPOINT`
}

/** The frames that a relay sends of this backlog, byte for byte; `idHeader` is what it adds for the broker. */
export const framesOf = async (
  database: Database,
  backlog: Backlog,
  idHeader: string | undefined,
): Promise<ReadonlyArray<Frame>> => {
  await refill(database, backlog)
  const rows = await database.sql`SELECT * FROM outbox.messages ORDER BY position`
  return rows.map((row) => ({
    destination: backlog.destination,
    body: row["body"],
    headers: {
      "content-type": row["content_type"],
      ...(idHeader !== undefined && { [idHeader]: row["id"] }),
      ...wireHeaders({
        position: row["position"],
        id: row["id"],
        event: row["event"],
        eventId: row["event_id"],
        operation: row["operation"],
        destination: backlog.destination,
        version: row["version"],
        key: row["key"],
        headers: row["headers"],
        createdAt: row["created_at"].toISOString(),
      }),
    },
  }))
}

/** What draining costs beside time: medians over the repeats. */
export interface Costs {
  readonly relayMicros: number[]
  readonly databaseMicros: number[]
  readonly statements: number[]
}

export const noCosts = (): Costs => ({ relayMicros: [], databaseMicros: [], statements: [] })

export const figuresOf = ({ relayMicros, databaseMicros, statements }: Costs) => ({
  "relay, µs of CPU a message": rounded(median(relayMicros), 3),
  "PostgreSQL, µs of CPU a message": rounded(median(databaseMicros), 3),
  "statements a message": rounded(median(statements), 2),
})

/** Runs a relay until the outbox is drained: the rate from its connection to the last recorded confirmation. */
export const drain = async <E>(
  database: Database,
  broker: Layer.Layer<Broker, E>,
  count: number,
  costs: Costs,
): Promise<number> => {
  let connectedAt = 0
  const timed = Layer.effect(
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
  ).pipe(Layer.provide(broker))
  const postmaster = Number(
    readFileSync(join(database.server.folder, "data/postmaster.pid"), "utf8").split("\n", 1)[0],
  )
  const transactions = async () => {
    const [row] = await database.sql<[{ count: string }]>`
      SELECT xact_commit AS count FROM pg_stat_database WHERE datname = current_database()`
    return Number(row.count)
  }
  const [cpu, seconds, committed] = [process.cpuUsage(), familyCpuSeconds(postmaster), await transactions()]
  const report = await Effect.runPromise(
    runRelay({ once: true }).pipe(
      Effect.provide(Layer.mergeAll(layerPostgres({ url: database.url }), timed, layerPolling)),
      Effect.provide(Logger.layer([])),
    ),
  )
  const rate = (count / (performance.now() - connectedAt)) * 1000
  if (report.published !== count) throw new Error(`${report.published} of ${count} published`)
  const used = process.cpuUsage(cpu)
  costs.relayMicros.push((used.user + used.system) / count)
  costs.databaseMicros.push(((familyCpuSeconds(postmaster) - seconds) * 1e6) / count)
  costs.statements.push(((await transactions()) - committed) / count)
  return rate
}

const WINDOWS = [500, 1000, 2000, 4000]

/** The window with which a baseline is fastest. */
export const fastestWindow = async (
  lab: Lab,
  label: string,
  bare: (window: number) => Promise<number>,
): Promise<number> => {
  if (lab.once) return 1000
  const contestants = Object.fromEntries(WINDOWS.map((window) => [`window ${window}`, () => bare(window)]))
  const rates = await interleave(lab, { label: `${label}, the baseline's windows`, repeats: 3 }, contestants)
  const rateOf = (window: number) => median(rates[`window ${window}`]!)
  return WINDOWS.reduce((best, next) => (rateOf(next) > rateOf(best) ? next : best))
}

/** Deletes a queue of RabbitMQ with all that is in it, so that no repeat finds what the one before has left. */
export const deleteQueue = async (managementUrl: string, queue: string): Promise<void> => {
  const { protocol, host, username, password } = new URL(managementUrl)
  const authorization = `Basic ${Buffer.from(`${username || "guest"}:${password || "guest"}`).toString("base64")}`
  await fetch(`${protocol}//${host}/api/queues/%2F/${queue}`, {
    method: "DELETE",
    headers: { authorization },
  })
}

/** No broker says over STOMP that a queue is empty: so many milliseconds without a message do. */
const SILENCE_MILLIS = 500

/** Takes all that is in a queue, so that none of it fills the broker's memory in the repeats to come. */
export const emptyQueue = async (brokerUrl: string, destination: string): Promise<void> => {
  const client = await rawStomp(brokerUrl)
  let last = performance.now()
  await client.subscribe(
    destination,
    () => {
      last = performance.now()
    },
    { ack: "auto", "activemq.prefetchSize": "1000" },
  )
  while (performance.now() - last < SILENCE_MILLIS) await sleep(SILENCE_MILLIS / 5)
  client.close()
  await client.closed
}
