/**
 * A program that places orders: `node writer.js JSON` with its settings, until SIGTERM.
 *
 * Of its transactions one in ten rolls back, one in twenty commits late, one in fifty writes many orders at once. Each one that
 * was tried is a line of JSON, a `Tried`; what it could not do, because the database was away, it leaves.
 */
import { drizzle } from "drizzle-orm/postgres-js"
import postgres from "postgres"
import { random } from "../support/random.ts"
import { monotonic, sleep } from "./clock.ts"
import { orders, ordersOutbox } from "./orders.ts"

export interface WriterSettings {
  readonly name: string
  readonly url: string
  readonly destination: string
  readonly seed: number
  readonly keys: number
  /** Orders tried per second, on average, while the database keeps up; nothing is made up for later. */
  readonly rate: number
  readonly prepare: boolean
}

/** A transaction as its writer saw it. */
export interface Tried {
  /** References and keys of its orders, in the order of their writing. */
  readonly orders: ReadonlyArray<readonly [ref: string, key: string]>
  /** When `withOutbox` was called, and when the commit had returned: never, where it rolled back or its fate is unknown. */
  readonly called: number
  readonly committed: number | null
}

/** Transactions at a time. */
const PARALLEL = 4
/** Orders of a transaction, on average: see `sizeOf`. */
const AVERAGE = 5

const write = async (settings: WriterSettings): Promise<void> => {
  const { name, url, destination, seed, keys, rate, prepare } = settings
  const connect = () => {
    const client = postgres(url, {
      max: 1,
      prepare,
      onnotice: () => {},
      backoff: () => 0.1,
      connect_timeout: 5,
      // What the driver asks for by itself ends the process when its connection is reset.
      fetch_types: false,
    })
    return { client, db: drizzle(client) }
  }
  const { withOutbox } = ordersOutbox(destination)
  let stopping = false
  process.once("SIGTERM", () => {
    stopping = true
  })
  let turn = 0
  const loop = async (number: number) => {
    const dice = random(seed * 31 + number)
    let connection = connect()
    const sizeOf = () => (dice.chance(0.02) ? 100 + dice.below(60) : 1 + dice.below(4))
    while (!stopping) {
      const began = monotonic()
      const at = turn++
      const size = sizeOf()
      const batch = Array.from(
        { length: size },
        (_, index) => [`${name}-${at}-${index}`, `k${dice.below(keys)}`] as const,
      )
      const [rollBack, late] = [dice.chance(0.1), dice.chance(0.05) ? 50 + dice.below(250) : 0]
      let called = 0
      const committed = await connection.db
        .transaction(async (tx) => {
          called = monotonic()
          await withOutbox(
            tx,
            orders,
            batch.map(([ref, key]) => ({ ref, key })),
          )
          if (late > 0) await sleep(late)
          if (rollBack) throw new Error("rolled back")
        })
        .then(
          () => monotonic(),
          () => null,
        )
      const tried: Tried = { orders: batch, called, committed }
      process.stdout.write(`${JSON.stringify(tried)}\n`)
      const pause = ((AVERAGE * PARALLEL) / rate) * 1000 * (0.5 + dice.next())
      const rest = Math.max(0, began + pause - monotonic())
      await sleep(committed === null && !rollBack ? Math.max(rest, 100) : rest)
      if (committed !== null || rollBack) continue
      // What a driver makes of a connection that died in a transaction is not what is tried here.
      void connection.client.end({ timeout: 1 }).catch(() => {})
      connection = connect()
    }
    await connection.client.end({ timeout: 2 })
  }
  await Promise.all(Array.from({ length: PARALLEL }, (_, number) => loop(number)))
  process.exit(0)
}

// postgres.js 3.4.9 writes the end of a transaction to a connection that has closed, from where nobody can catch it (its
// issue 1154). Whoever waits for the transaction has heard already.
process.on("uncaughtException", (error) => {
  if (/reading 'write'/.test(error.message)) return
  console.error(error)
  process.exit(1)
})

await write(JSON.parse(process.argv[2] ?? "{}") as WriterSettings)
