/** The business that is told of: orders, and the events that announce them. */
import { bigint, pgTable, text } from "drizzle-orm/pg-core"
import { defineOutbox } from "drizzle-outbox"
import type postgres from "postgres"

export const orders = pgTable("orders", {
  id: bigint({ mode: "number" }).primaryKey().generatedAlwaysAsIdentity(),
  /** What its writer calls it. */
  ref: text().notNull(),
  key: text().notNull(),
})

/** What a message says. */
export interface OrderBody {
  readonly id: number
  readonly ref: string
}

/** Every order is announced on this destination, in the order of its key. */
export const ordersOutbox = (destination: string) =>
  defineOutbox({
    orders: {
      table: orders,
      destination,
      key: (order) => order.key,
      serializer: (order): OrderBody => ({ id: order.id, ref: order.ref }),
    },
  })

/** The tables of the business, and of what its consumer does: one effect a message. */
export const createTables = async (sql: postgres.Sql): Promise<void> => {
  await sql`
    CREATE TABLE orders (
      id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, ref text NOT NULL, key text NOT NULL)`
  await sql`
    CREATE TABLE effects (
      seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
      message_id text NOT NULL, ref text NOT NULL, key text, attempt int NOT NULL)`
  // Keys whose handler fails for now.
  await sql`CREATE TABLE failing (key text PRIMARY KEY)`
}
