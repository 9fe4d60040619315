/** The orders service: takes orders with their stock, and settles them by what the payments service answers. */
import { eq, sql } from "drizzle-orm"
import { integer, pgTable, text } from "drizzle-orm/pg-core"
import { type AnyDatabase, defineOutbox, type Nudge, transaction } from "drizzle-outbox"
import { consume, Reject } from "drizzle-outbox/consumer"
import { OrderPlaced, PaymentSettled, type Topics } from "./contracts.ts"

export const orders = pgTable("orders", {
  id: integer().primaryKey().generatedAlwaysAsIdentity(),
  customer: text().notNull(),
  product: text().notNull(),
  amount: integer().notNull(),
  state: text({ enum: ["placed", "confirmed", "cancelled"] })
    .notNull()
    .default("placed"),
  /** The request that placed it; comes back with the payment as the correlation id. */
  requestId: text("request_id").notNull(),
  settledBy: text("settled_by"),
  timesSettled: integer("times_settled").notNull().default(0),
})

export const stock = pgTable("stock", { product: text().primaryKey(), left: integer().notNull() })

export const ordersTables = `
  CREATE TABLE orders (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, customer text NOT NULL, product text NOT NULL, amount integer NOT NULL,
    state text NOT NULL DEFAULT 'placed', request_id text NOT NULL, settled_by text, times_settled integer NOT NULL DEFAULT 0
  );
  CREATE TABLE stock (product text PRIMARY KEY, "left" integer NOT NULL CHECK ("left" >= 0))`

export const openOrders = (db: AnyDatabase, topics: Topics, nudge: Nudge) => {
  const { withOutbox } = defineOutbox(
    {
      orders: {
        table: orders,
        destination: topics.orders,
        operations: ["insert"],
        schema: OrderPlaced,
        serializer: ({ id, customer, amount }) => ({ order_id: id, customer, amount }),
      },
    },
    { nudge },
  )

  /** The order, its reserved stock and its event are one transaction. */
  const place = (order: { customer: string; product: string; amount: number; requestId: string }) =>
    transaction(db, async (tx) => {
      await tx
        .update(stock)
        .set({ left: sql`${stock.left} - 1` })
        .where(eq(stock.product, order.product))
      return await withOutbox(tx, orders, order, { correlationId: order.requestId })
    })

  /** Confirms what was paid; cancels what was not, and gives its stock back. */
  const consumer = consume(
    topics.payments,
    { consumer: "orders", schema: PaymentSettled },
    async ({ body, cause, tx }) => {
      const [order] = await tx
        .update(orders)
        .set({
          state: body.outcome === "taken" ? "confirmed" : "cancelled",
          settledBy: cause.correlationId,
          timesSettled: sql`${orders.timesSettled} + 1`,
        })
        .where(eq(orders.id, body.order_id))
        .returning()
      // Trying again would not make it exist.
      if (order === undefined) throw new Reject({ reason: `there is no order ${body.order_id}` })
      if (body.outcome === "refused") {
        await tx
          .update(stock)
          .set({ left: sql`${stock.left} + 1` })
          .where(eq(stock.product, order.product))
      }
    },
  )
  return { place, consumer }
}
