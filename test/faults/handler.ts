/** What the consumers of the fault harness do with a message: one effect, in the message's transaction. */
import { sql } from "drizzle-orm"
import type { Handling } from "drizzle-outbox/consumer"
import { sleep } from "./clock.ts"
import type { OrderBody } from "./orders.ts"

export const effect = async ({ tx, id, key, body, attempt }: Handling<OrderBody>): Promise<void> => {
  await tx.execute(
    sql`INSERT INTO effects (message_id, ref, key, attempt) VALUES (${id}, ${body.ref}, ${key}, ${attempt})`,
  )
}

/** Fails, after its effect, for the keys that are to fail now; and has forgotten an `await`, so that it writes when all is over. */
export const failing = async (message: Handling<OrderBody>): Promise<void> => {
  await effect(message)
  const { tx, key } = message
  const rows: ReadonlyArray<unknown> = await tx.execute(sql`SELECT 1 FROM failing WHERE key = ${key}`)
  if (rows.length === 0) return
  void sleep(30)
    .then(() => effect(message))
    .catch(() => {})
  throw new Error(`the handler fails for ${key}`)
}
