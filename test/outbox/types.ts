/** Compiled, never run: what the compiler infers, and the sentence it answers each misuse with. */
import { eq } from "drizzle-orm"
import { drizzle as drizzleNode } from "drizzle-orm/node-postgres"
import {
  bigint,
  customType,
  integer,
  jsonb,
  numeric,
  pgSchema,
  pgTable,
  pgTableCreator,
  text,
  timestamp,
  uuid,
} from "drizzle-orm/pg-core"
import { drizzle } from "drizzle-orm/postgres-js"
import { Effect, Schema } from "effect"
import {
  defineOutbox,
  type EventBody,
  type OutboxError,
  type Transaction,
  transaction,
} from "../../src/index.ts"

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
  some: {
    table: orders,
    destination: ["/a", "/b"],
    fields: ["id", "seen", "tags"],
    key: "customerId",
    operations: ["update"],
  },
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
  invoices: {
    destination: "/topic/invoices",
    serializer: (p: { id: number }) => p,
    key: (p: { id: number }) => p.id,
  },
  "order.cancelled": { destination: "/topic/cancelled", serializer: (c: { id: string }) => ({ id: c.id }) },
  checked: {
    table: lines,
    destination: "/q",
    operations: ["update"],
    schema: Schema.Struct({ id: Schema.BigInt }),
  },
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
    const row = await withOutbox(tx, orders, {
      customerId: "c",
      total: "1",
      seen: 1,
      at: new Date(),
      counts: [1n],
    })
    same<typeof row, typeof orders.$inferSelect>(true)
    const rows = await withOutbox(tx, payments, [{ id: 1, amount: "1" }])
    same<typeof rows, (typeof payments.$inferSelect)[]>(true)
    const updated = await withOutbox.update(tx, payments, { amount: "2" }, eq(payments.id, 1))
    same<typeof updated, (typeof payments.$inferSelect)[]>(true)
    await withOutbox.delete(tx, payments, eq(payments.id, 1), { correlationId: "c" })
    const upserted = await withOutbox.upsert(
      tx,
      payments,
      { id: 1, amount: "1" },
      { target: payments.id, set: { amount: "2" } },
    )
    same<typeof upserted, typeof payments.$inferSelect | undefined>(true)
    await withOutbox(tx, parcels, { id: 1 })
    await withOutbox(tx, invoices, { id: 1 })
    await emit(tx, "order.cancelled", { id: "1" }, { headers: { a: "b" } })
    await tx.transaction((inner) => withOutbox(inner, parcels, { id: 2 }))

    // @ts-expect-error no event is bound to the table "refunds"
    await withOutbox(tx, refunds, { id: 1 })
    // @ts-expect-error wrong row: `total` is missing
    await withOutbox(tx, orders, { customerId: "c", seen: 1, at: new Date(), counts: [] })
    // @ts-expect-error wrong row among several: `amount` is no number
    await withOutbox(tx, payments, [{ id: 1, amount: 1 }])
    // @ts-expect-error wrong row: there is no `amuont`
    await withOutbox(tx, payments, { id: 1, amount: "1", amuont: "1" })
    // @ts-expect-error wrong set: `amount` is no number
    await withOutbox.update(tx, payments, { amount: 1 }, eq(payments.id, 1))
    // @ts-expect-error db is no transaction
    await withOutbox(db, payments, { id: 1, amount: "1" })
    // @ts-expect-error no event of the table "lines" lists the operation "upsert"
    await withOutbox.upsert(tx, lines, { id: 1 }, { target: lines.id, set: { note: "" } })
    // @ts-expect-error there is no such event
    await emit(tx, "order.canceled", { id: "1" })
    // @ts-expect-error the event does not list emit
    await emit(tx, "whole", row)
    // @ts-expect-error the value does not fit the serializer
    await emit(tx, "order.cancelled", { id: 1 })
  })

export const otherDriver = () => node.transaction((tx) => withOutbox(tx, parcels, { id: 1 }))

const misfit = defineOutbox({ payments: { destination: "/p", serializer: (p: { id: string }) => p.id } })
export const misfits = () =>
  // @ts-expect-error the serializer of event "payments" does not take a row of the table "payments"
  db.transaction((tx) => misfit.withOutbox(tx, payments, { id: 1, amount: "1" }))

// Effects: R says that they need a transaction, and `transaction` gives it.
const inEffect = effect.withOutbox(parcels, { id: 1 })
same<typeof inEffect, Effect.Effect<{ id: number }, OutboxError, Transaction>>(true)
const run = transaction(db, Effect.andThen(inEffect, effect.emit("order.cancelled", { id: "1" })))
same<typeof run, Effect.Effect<void, OutboxError, never>>(true)
export const program = () => Effect.runPromise(run)
export const outside = () =>
  // @ts-expect-error an operation outside `transaction` lacks the service Transaction
  Effect.runPromise(inEffect)
export const promised = (): Promise<{ id: number }> =>
  transaction(db, (tx) => withOutbox(tx, parcels, { id: 1 }))

export const definitions = () => [
  // @ts-expect-error unknown field "totl"
  defineOutbox({ orders: { table: orders, destination: "/a", fields: ["totl"] } }),
  // @ts-expect-error unfit serializer: the row has no such property
  defineOutbox({ orders: { table: orders, destination: "/a", serializer: (o) => o.nothing } }),
  // @ts-expect-error unfit serializer: its parameter is no row of the table
  defineOutbox({ orders: { table: orders, destination: "/a", serializer: (o: { id: number }) => o.id } }),
  // @ts-expect-error the key is no property of the row
  defineOutbox({ orders: { table: orders, destination: "/a", key: "customer" } }),
  // @ts-expect-error a `key` that names a property needs `table`
  defineOutbox({ payments: { destination: "/a", serializer: (p: Payment) => p, key: "id" } }),
  // @ts-expect-error unknown option
  defineOutbox({ orders: { table: orders, destination: "/a", serialiser: 1 } }),
  // @ts-expect-error `fields` needs `table`
  defineOutbox({ orders: { destination: "/a", fields: ["id"] } }),
  // @ts-expect-error without `table` a whole row is not known: a serializer is needed
  defineOutbox({ orders: { destination: "/a" } }),
  // @ts-expect-error no destination
  defineOutbox({ orders: { table: orders, fields: ["id"] } }),
  // @ts-expect-error no such operation
  defineOutbox({ orders: { table: orders, destination: "/a", operations: ["insertt"] } }),
  // @ts-expect-error the parameter of an event without `table` is annotated
  defineOutbox({ orders: { destination: "/a", serializer: (o) => o.id } }),
  // @ts-expect-error a publication's place is either the event or `publish`
  defineOutbox({ orders: { table: orders, destination: "/a", publish: [{ destination: "/b" }] } }),
]
