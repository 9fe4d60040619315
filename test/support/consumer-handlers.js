/** Handlers for consumers as processes. They write to the table that `consumer-lab.ts` makes. */
import { sql } from "drizzle-orm"

const instance = process.env.TEST_INSTANCE ?? ""
const work = Number(process.env.TEST_WORK_MILLIS ?? "0")

/** One row a message, after some work. */
export const effect = async ({ tx, id, key, body, attempt }) => {
  await tx.execute(
    sql`INSERT INTO effects (message_id, key, n, attempt, instance)
        VALUES (${id}, ${key}, ${body.n}, ${attempt}, ${instance})`,
  )
  if (work > 0) await new Promise((resolve) => setTimeout(resolve, work))
}

/** Takes its process down at bodies that say so. */
export const exits = async (message) => {
  await effect(message)
  if (message.body.exit === true) process.exit(7)
}
