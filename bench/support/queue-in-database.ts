/** A queue in a database of its own, with its worker and its writer in processes of theirs: the outbox, or a peer. */
import postgres, { type Sql } from "postgres"
import type { QueueAnswer, QueueAsk, QueueConfig, QueueName } from "../peers/queue.ts"
import type { Confirmed, CountingRelayConfig } from "./counting-relay.ts"
import { fill } from "./fill.ts"
import type { Peers } from "./peers.ts"
import { backendsOf } from "./processes.ts"
import { startProgram } from "./program.ts"
import type { Database } from "./servers.ts"
import type { Steady, SteadyWriterConfig, Wrote } from "./steady-writer.ts"

export interface QueueInDatabase {
  readonly url: string
  /** The bench's own connections. */
  readonly sql: Sql
  /** Its tables. */
  readonly schema: string
  /** Processes of its worker and of the worker's connections; none where its connections cannot be told from the writer's. */
  readonly workers: () => Promise<ReadonlyArray<number>>
  /** Messages or jobs that have left since it began. */
  readonly completed: () => Promise<number>
  /** Writes one at a time, at random moments. */
  readonly steady: (pace: Steady) => Promise<Wrote>
  /** Writes many at once. */
  readonly burst: (count: number) => Promise<void>
  readonly close: () => Promise<void>
}

const DESTINATION = "/topic/bench"
const EMIT = `
  SELECT outbox.emit('orders', '${DESTINATION}', json_build_object('order_id', $1::int, 'note', repeat('x', 150))::text,
                     'customer-' || $1::int % 500)`

const open = (url: string, max = 10): Sql =>
  postgres(url, { max, onnotice: () => {}, connection: { application_name: "bench" } })

/** The outbox with a relay whose broker takes everything at no cost; written by eight connections. */
export const openOutboxQueue = async (database: Database, name: string): Promise<QueueInDatabase> => {
  const url = await database.another(name)
  const sql = open(url)
  const relay = await startProgram<"confirmed", Confirmed>("counting-relay", {
    database: url,
  } satisfies CountingRelayConfig)
  const writer = await startProgram<Steady, Wrote>("steady-writer", {
    database: url,
    statement: EMIT,
    connections: 8,
  } satisfies SteadyWriterConfig)
  return {
    url,
    sql,
    schema: "outbox",
    workers: async () => [relay.pid, ...(await backendsOf(sql, name))],
    completed: () => relay.ask("confirmed"),
    steady: writer.ask,
    burst: (count) => fill(sql, count, { destination: DESTINATION }),
    close: async () => {
      await writer.stop()
      await relay.stop()
      await sql.end()
    },
  }
}

/** A job queue from npm, tuned as its documentation says, with jobs that do nothing. */
export const openPeerQueue = async (
  database: Database,
  name: string,
  queue: QueueName,
  { folder, command }: Peers,
): Promise<QueueInDatabase> => {
  const url = await database.another(name)
  const sql = open(url)
  const start = (role: QueueConfig["role"]) =>
    startProgram<QueueAsk, QueueAnswer>(
      "../peers/queue",
      { queue, folder, database: url, role } satisfies QueueConfig,
      { node: command },
    )
  const worker = await start("worker")
  const writer = await start("writer")
  return {
    url,
    sql,
    schema: queue === "pg-boss" ? "pgboss" : "graphile_worker",
    workers: async () => [],
    completed: async () => ((await worker.ask("completed")) as { readonly completed: number }).completed,
    steady: async (steady) => (await writer.ask({ steady })) as Wrote,
    burst: async (burst) => {
      await writer.ask({ burst })
    },
    close: async () => {
      await writer.stop()
      await worker.stop()
      await sql.end()
    },
  }
}
