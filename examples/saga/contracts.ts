/** What the two services tell each other: the only code that they share. */
import { Schema } from "effect"

export const OrderPlaced = Schema.Struct({
  order_id: Schema.Int,
  customer: Schema.String,
  amount: Schema.Int,
})

export const PaymentSettled = Schema.Struct({
  order_id: Schema.Int,
  outcome: Schema.Literals(["taken", "refused"]),
  reason: Schema.NullOr(Schema.String),
})

/** Where they are told: topics that each run has for itself. */
export interface Topics {
  readonly orders: string
  readonly payments: string
}
