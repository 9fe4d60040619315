/** The payments service: asks the bank for each order's money, and tells what came of it. */
import { integer, pgTable, text } from "drizzle-orm/pg-core"
import { defineOutbox, type Nudge } from "drizzle-outbox"
import { consume } from "drizzle-outbox/consumer"
import type { Bank } from "./bank.ts"
import { OrderPlaced, PaymentSettled, type Topics } from "./contracts.ts"

export const payments = pgTable("payments", {
  orderId: integer("order_id").primaryKey(),
  amount: integer().notNull(),
  outcome: text({ enum: ["taken", "refused"] }).notNull(),
  reason: text(),
})

export const paymentsTables = `
  CREATE TABLE payments (order_id integer PRIMARY KEY, amount integer NOT NULL, outcome text NOT NULL, reason text)`

export const openPayments = (topics: Topics, bank: Bank, nudge: Nudge) => {
  const { withOutbox } = defineOutbox(
    {
      payments: {
        table: payments,
        destination: topics.payments,
        schema: PaymentSettled,
        serializer: ({ orderId, outcome, reason }) => ({ order_id: orderId, outcome, reason }),
      },
    },
    { nudge },
  )

  const consumer = consume(
    topics.orders,
    { consumer: "payments", schema: OrderPlaced },
    async ({ body, id, tx }) => {
      // The bank is no part of the transaction: the message's id lets it see that it was asked before.
      const { outcome, reason } = await bank.charge({
        idempotencyKey: id,
        customer: body.customer,
        amount: body.amount,
      })
      // The payment, the answer to the orders service and the record that this message is handled commit together.
      await withOutbox(tx, payments, { orderId: body.order_id, amount: body.amount, outcome, reason })
    },
  )
  return { consumer }
}
