/** Compiled, never run: what the compiler infers, and the sentence it answers each misuse with. */
import { eq } from "drizzle-orm"
import { bigint, customType, integer, jsonb, numeric, pgSchema, pgTable, pgTableCreator, text, timestamp, uuid } from "drizzle-orm/pg-core"
import { drizzle as drizzleNode } from "drizzle-orm/node-postgres"
import { drizzle } from "drizzle-orm/postgres-js"
import { Effect, Schema } from "effect"
import { defineOutbox, type EventBody, type OutboxError, type Transaction, transaction } from "../../src/index.ts"

type Same<A, B> = (<X>() => X extends A ? 1 : 2) extends <X>() => X extends B ? 1 : 2 ? true : false
const same = <_A, _B>(_: Same<_A, _B>): void => {}

const bytea = customType<{ data: Uint8Array }>({ dataType: () => "bytea" })
const orders = pgTable("orders", {
  id: uuid().primaryKey().defaultRandom(),
  customerId: text("customer_id").notNull(),
  total: numeric().notNull(),
  seen: bigint({ mode: "number" }).notNull(),
  at: timestamp().notNull(),
  tags: text().array(),
  counts: bigint({ mode: "bigint" }).array().notNull(),
  photo: bytea(),
  extra: jsonb().$type<{ a: number }>(),
})
const payments = pgTable("payments", { id: integer().primaryKey(), amount: numeric().notNull() })
const refunds = pgTable("refunds", { id: integer().primaryKey() })
const parcels = pgSchema("shop").table("parcels", { id: integer().primaryKey() })
const prefixed = pgTableCreator((name) => `app_${name}`)
const invoices = prefixed("invoices", { id: integer().primaryKey() })
const lines = pgTable("lines", { id: integer().primaryKey(), note: text() })

interface Payment {
  readonly id: number
  readonly amount: string
}

const { withOutbox, emit, effect, events } = defineOutbox({
  orders: {
    table: orders,
    destination: "/topic/orders",
    version: "v2",
    key: (o) => o.customerId,
    when: (o, { operation, old }) => operation === "insert" || o.total !== old?.total,
    serializer: (o) => ({ order_id: o.id, at: o.at, n: 1n, maybe: o.photo ?? undefined }),
  },
  whole: { table: orders, destination: (o) => [o.customerId], operations: ["insert"] },
  some: { table: orders, destination: ["/a", "/b"], fields: ["id", "seen", "tags"], operations: ["update"] },
  several: {
    table: lines,
    operations: ["insert", "delete"],
    publish: [
      { destination: "/topic/lines", version: "v1", serializer: (l) => ({ id: l.id }) },
      { destination: "/queue/audit", fields: ["note"] },
    ],
  },
  payments: { destination: "/topic/payments", serializer: (p: Payment) => ({ id: p.id }) },
  parcels: { destination: "/topic/parcels", serializer: (p: { id: number }) => p },
  invoices: { destination: "/topic/invoices", serializer: (p: { id: number }) => p, key: (p: { id: number }) => p.id },
  "order.cancelled": { destination: "/topic/cancelled", serializer: (c: { id: string }) => ({ id: c.id }) },
  checked: { table: lines, destination: "/q", operations: ["update"], schema: Schema.Struct({ id: Schema.BigInt }) },
  raw: { destination: "/q", contentType: "text/plain", serializer: (s: string) => s },
})

same<EventBody<typeof events.orders>, { order_id: string; at: string; n: string; maybe?: string }>(true)
same<
  EventBody<typeof events.whole>,
  {
    id: string
    customerId: string
    total: string
    seen: string
    at: string
    tags: string[] | null
    counts: string[]
    photo: string | null
    extra: { a: number } | null
  }
>(true)
same<EventBody<typeof events.some>, { id: string; seen: string; tags: string[] | null }>(true)
same<EventBody<typeof events.several>, { id: number } | { note: string | null }>(true)
same<EventBody<typeof events.checked>, { readonly id: bigint }>(true)
same<EventBody<typeof events.raw>, string>(true)
same<typeof events.orders.name, "orders">(true)

const db = drizzle("postgres://", { schema: { orders } })
const node = drizzleNode("postgres://")

export const uses = () =>
  db.transaction(async (tx) => {
    const row = await withOutbox(tx, orders, { customerId: "c", total: "1", seen: 1, at: new Date(), counts: [1n] })
    same<typeof row, typeof orders.$inferSelect>(true)
    const rows = await withOutbox(tx, payments, [{ id: 1, amount: "1" }])
    same<typeof rows, (typeof payments.$inferSelect)[]>(true)
    const updated = await withOutbox.update(tx, payments, { amount: "2" }, eq(payments.id, 1))
    same<typeof updated, (typeof payments.$inferSelect)[]>(true)
    await withOutbox.delete(tx, payments, eq(payments.id, 1), { correlationId: "c" })
    const upserted = await withOutbox.upsert(tx, payments, { id: 1, amount: "1" }, { target: payments.id, set: { amount: "2" } })
    same<typeof upserted, typeof payments.$inferSelect | undefined>(true)
    await withOutbox(tx, parcels, { id: 1 })
    await withOutbox(tx, invoices, { id: 1 })
    await emit(tx, "order.cancelled", { id: "1" }, { headers: { a: "b" } })
    await tx.transaction((inner) => withOutbox(inner, parcels, { id: 2 }))

    // x
    await withOutbox(tx, refunds, { id: 1 })
    // x
    await withOutbox(tx, orders, { customerId: "c", seen: 1, at: new Date(), counts: [] })
    // x
    await withOutbox(tx, payments, [{ id: 1, amount: 1 }])
    // x
    await withOutbox(tx, payments, { id: 1, amount: "1", amuont: "1" })
    // x
    await withOutbox.update(tx, payments, { amount: 1 }, eq(payments.id, 1))
    // x
    await withOutbox(db, payments, { id: 1, amount: "1" })
    // x
    await withOutbox.upsert(tx, lines, { id: 1 }, { target: lines.id, set: { note: "" } })
    // x
    await emit(tx, "order.canceled", { id: "1" })
    // x
    await emit(tx, "whole", row)
    // x
    await emit(tx, "order.cancelled", { id: 1 })
  })

export const otherDriver = () => node.transaction((tx) => withOutbox(tx, parcels, { id: 1 }))

const misfit = defineOutbox({ payments: { destination: "/p", serializer: (p: { id: string }) => p.id } })
export const misfits = () =>
  // x
  db.transaction((tx) => misfit.withOutbox(tx, payments, { id: 1, amount: "1" }))

// Effects: R says that they need a transaction, and `transaction` gives it.
const inEffect = effect.withOutbox(parcels, { id: 1 })
same<typeof inEffect, Effect.Effect<{ id: number }, OutboxError, Transaction>>(true)
const run = transaction(db, Effect.andThen(inEffect, effect.emit("order.cancelled", { id: "1" })))
same<typeof run, Effect.Effect<void, OutboxError, never>>(true)
export const program = () => Effect.runPromise(run)
export const outside = () =>
  // x
  Effect.runPromise(inEffect)
export const promised = (): Promise<{ id: number }> => transaction(db, (tx) => withOutbox(tx, parcels, { id: 1 }))

export const definitions = () => [
  // x
  defineOutbox({ orders: { table: orders, destination: "/a", fields: ["totl"] } }),
  // x
  defineOutbox({ orders: { table: orders, destination: "/a", serializer: (o) => o.nothing } }),
  // x
  defineOutbox({ orders: { table: orders, destination: "/a", serializer: (o: { id: number }) => o.id } }),
  // x
  defineOutbox({ orders: { table: orders, destination: "/a", serialiser: 1 } }),
  // x
  defineOutbox({ orders: { destination: "/a", fields: ["id"] } }),
  // x
  defineOutbox({ orders: { destination: "/a" } }),
  // x
  defineOutbox({ orders: { table: orders, fields: ["id"] } }),
  // x
  defineOutbox({ orders: { table: orders, destination: "/a", operations: ["insertt"] } }),
  // x
  defineOutbox({ orders: { destination: "/a", serializer: (o) => o.id } }),
  // x
  defineOutbox({ orders: { table: orders, destination: "/a", publish: [{ destination: "/b" }] } }),
]
