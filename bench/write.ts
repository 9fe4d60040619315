/** What `withOutbox` adds to a transaction that inserts anyway, against the bare insert and one that also notifies. */
import { once } from "node:events"
import { connect } from "node:net"
import { sql as statement } from "drizzle-orm"
import { bigint, numeric, pgTable, text, timestamp } from "drizzle-orm/pg-core"
import { drizzle, type PostgresJsDatabase } from "drizzle-orm/postgres-js"
import { defineOutbox } from "drizzle-outbox"
import postgres from "postgres"
import { interleave, ratioOf } from "./support/compare.ts"
import type { Lab, Question } from "./support/question.ts"
import { type Database, startDatabase } from "./support/servers.ts"
import { median, percentile, rounded } from "./support/statistics.ts"

const ROUNDS = 31
/** A short round, as there are many: what else the machine does falls on all contestants. */
const ROUND_MILLIS = 200

const orders = pgTable("orders", {
  id: bigint({ mode: "bigint" }).primaryKey().generatedAlwaysAsIdentity(),
  customer: text().notNull(),
  total: numeric().notNull(),
  status: text().notNull(),
  placedAt: timestamp("placed_at", { withTimezone: true }).notNull(),
})
type Order = typeof orders.$inferInsert

const event = { table: orders, destination: "/topic/orders", version: "v1" } as const
const whole = defineOutbox({ orders: event })
const fields = defineOutbox({ orders: { ...event, fields: ["id", "customer", "total"] } })
const serialized = defineOutbox({
  orders: {
    ...event,
    serializer: ({ id, customer, total, status, placedAt }: typeof orders.$inferSelect) => ({
      id,
      customer,
      total,
      status,
      placedAt,
    }),
  },
})

type Transact = (db: PostgresJsDatabase, rows: Order[]) => Promise<unknown>
const BARE = "bare insert"
const contestants = {
  [BARE]: (db, rows) => db.transaction((tx) => tx.insert(orders).values(rows).returning()),
  "whole row": (db, rows) => db.transaction((tx) => whole.withOutbox(tx, orders, rows)),
  fields: (db, rows) => db.transaction((tx) => fields.withOutbox(tx, orders, rows)),
  "serializer function": (db, rows) => db.transaction((tx) => serialized.withOutbox(tx, orders, rows)),
  /** What Drizzle leaves to its user: postgres.js saves a round trip. */
  "no outbox, prepared": (db, rows) =>
    db.transaction((tx) => tx.insert(orders).values(rows).returning().prepare("insert").execute()),
  "no outbox, NOTIFY": (db, rows) =>
    db.transaction(async (tx) => {
      await tx.insert(orders).values(rows).returning()
      await tx.execute(statement`SELECT pg_notify('orders', '')`)
    }),
} satisfies Record<string, Transact>
type Contestant = keyof typeof contestants
const names = Object.keys(contestants) as Contestant[]

export const question: Question = {
  asks: "What does withOutbox add to a transaction that inserts rows?",
  minutes: 12,
  run: async (lab) => {
    const database = await startDatabase()
    try {
      await database.sql`
        CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, customer text NOT NULL,
          total numeric NOT NULL, status text NOT NULL, placed_at timestamptz NOT NULL)`
      const traffic = await countTraffic(database)
      for (const writers of [1, 8, 32])
        for (const rows of [1, 100])
          for (const commit of ["on", "off"] as const)
            await measured(lab, database, { writers, rows, commit }, traffic)
    } finally {
      await database.remove()
    }
  },
}

interface Load {
  readonly writers: number
  readonly rows: number
  /** PostgreSQL's `synchronous_commit`. */
  readonly commit: "on" | "off"
}

const caseOf = (name: Contestant, { writers, rows, commit }: Load) =>
  `${name}, ${writers} ${writers === 1 ? "writer" : "writers"}, ${rows} ${rows === 1 ? "row" : "rows"}, synchronous_commit ${commit}`

/** All contestants in turn under one load. */
const measured = async (
  lab: Lab,
  database: Database,
  load: Load,
  traffic: Readonly<Record<Contestant, Traffic>>,
): Promise<void> => {
  const wanted = names.filter((name) => name !== BARE && lab.wants(caseOf(name, load)))
  if (wanted.length === 0) return
  const { writers, rows, commit } = load
  await database.sql`TRUNCATE orders, outbox.messages`
  const client = postgres(database.url, {
    max: writers,
    onnotice: () => {},
    connection: { synchronous_commit: commit },
  })
  const latencies = new Map(names.map((name) => [name, [] as number[]]))
  const millis = lab.once ? 0 : ROUND_MILLIS
  const runs = Object.fromEntries(
    [BARE, ...wanted].map((name) => [
      name,
      () =>
        round(
          drizzle(client),
          contestants[name as Contestant],
          lab.once ? { ...load, writers: Math.min(writers, 4) } : load,
          millis,
          latencies.get(name as Contestant)!,
        ),
    ]),
  )
  try {
    const label = `${writers} × ${rows}, ${commit}`
    const times = await interleave(lab, { label, repeats: ROUNDS, warmups: 2, unit: "ms" }, runs)
    const perSecond = (name: string) => rounded((1000 * writers) / median(times[name]!))
    const seen = (name: Contestant) => ({
      p50: rounded(percentile(latencies.get(name)!, 0.5)),
      p99: rounded(percentile(latencies.get(name)!, 0.99)),
    })
    for (const name of wanted)
      await lab.measure(caseOf(name, load), async () => ({
        ...ratioOf(times[name]!, times[BARE]!, "ms"),
        figures: {
          transactionsPerSecond: perSecond(name),
          baselineTransactionsPerSecond: perSecond(BARE),
          latencyMs: seen(name),
          baselineLatencyMs: seen(BARE),
          perTransaction: traffic[name],
          baselinePerTransaction: traffic[BARE],
        },
        settings: {
          ...database.settings,
          driver: "postgres.js",
          writers,
          rows,
          synchronous_commit: commit,
          roundMillis: millis,
        },
      }))
  } finally {
    await client.end()
  }
}

/** Milliseconds of a transaction as each writer sees it, from the time that all of them need for all. Each makes one at least. */
const round = async (
  db: PostgresJsDatabase,
  transact: Transact,
  { writers, rows }: Load,
  millis: number,
  latencies: number[],
): Promise<number> => {
  let count = 0
  const began = performance.now()
  const writer = async () => {
    do {
      const one = performance.now()
      await transact(db, newOrders(rows))
      latencies.push(performance.now() - one)
      count++
    } while (performance.now() - began < millis)
  }
  await Promise.all(Array.from({ length: writers }, writer))
  return ((performance.now() - began) * writers) / count
}

const newOrders = (rows: number): Order[] =>
  Array.from({ length: rows }, (_, n) => ({
    customer: `customer-${n % 500}`,
    total: "100.10",
    status: "placed",
    placedAt: new Date(),
  }))

/** What one transaction sends, BEGIN and COMMIT among it, and how often it waits for the server. */
interface Traffic {
  readonly statements: number
  readonly roundTrips: number
}

/** Once the connection is warm. Counted where the driver writes: pg_stat_statements overlooks a prepared COMMIT. */
const countTraffic = async (database: Database): Promise<Readonly<Record<Contestant, Traffic>>> => {
  let [statements, roundTrips] = [0, 0]
  const { hostname, port } = new URL(database.url)
  const client = postgres(database.url, {
    max: 1,
    debug: () => {
      statements++
    },
    // @ts-expect-error its types have no `socket`.
    socket: async () => {
      const socket = connect(Number(port), hostname)
      await once(socket, "connect")
      let waiting = false
      const write = socket.write.bind(socket)
      socket.write = ((...parts: Parameters<typeof write>) => {
        if (!waiting) roundTrips++
        waiting = true
        return write(...parts)
      }) as typeof write
      socket.on("data", () => {
        waiting = false
      })
      return socket
    },
  })
  const counts: Partial<Record<Contestant, Traffic>> = {}
  try {
    for (const name of names) {
      const run = () => contestants[name](drizzle(client), newOrders(1))
      for (let n = 0; n < 4; n++) await run()
      ;[statements, roundTrips] = [0, 0]
      for (let n = 0; n < 10; n++) await run()
      counts[name] = { statements: statements / 10, roundTrips: roundTrips / 10 }
    }
  } finally {
    await client.end()
  }
  return counts as Record<Contestant, Traffic>
}
