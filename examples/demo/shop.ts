/** The application: orders, some of which are never placed. */

import { integer, numeric, pgTable, text } from "drizzle-orm/pg-core"
import { drizzle } from "drizzle-orm/postgres-js"
import { defineOutbox, transaction } from "drizzle-outbox"
import type { LocalNudge } from "drizzle-outbox/relay"
import type { Sql } from "postgres"

const orders = pgTable("orders", {
  id: integer().primaryKey().generatedAlwaysAsIdentity(),
  customer: text().notNull(),
  total: numeric().notNull(),
})

/** Every eighth order fails after its event was written. */
const FAILS_EVERY = 8

class OutOfStock extends Error {}

export interface Shop {
  readonly createTables: () => Promise<void>
  /** Places an order; false when its transaction rolled back. */
  readonly placeOrder: (n: number) => Promise<boolean>
  /** The ids of all orders that exist. */
  readonly orderIds: () => Promise<ReadonlySet<number>>
}

/** A shop whose orders are announced on `destination`. */
export const openShop = (sql: Sql, destination: string, nudge: LocalNudge): Shop => {
  const db = drizzle(sql)
  const { withOutbox } = defineOutbox(
    {
      orders: {
        table: orders,
        destination,
        version: "v1",
        key: "customer",
        serializer: (order) => ({ order_id: order.id, customer: order.customer, total: order.total }),
      },
    },
    { nudge },
  )
  return {
    createTables: async () => {
      await sql`
        CREATE TABLE orders (
          id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, customer text NOT NULL, total numeric NOT NULL
        )`
    },
    placeOrder: async (n) => {
      try {
        await transaction(db, async (tx) => {
          await withOutbox(tx, orders, { customer: `customer-${n % 50}`, total: `${n}.00` })
          if (n % FAILS_EVERY === 0) throw new OutOfStock()
        })
        return true
      } catch (error) {
        if (error instanceof OutOfStock) return false
        throw error
      }
    },
    orderIds: async () => new Set((await db.select({ id: orders.id }).from(orders)).map(({ id }) => id)),
  }
}
