/** Which destinations the outbox has messages for. */
import { quoteSchema } from "../../store/schema-name.ts"
import type { Query } from "./database.ts"

/** Rows looked at on each way, by an index. */
const ROWS = 10_000
const MOST = 1000

/** Of the oldest that are ready, the soonest that are due later, the refused and the newest: at most 1,000 of them. */
export const readDestinations = async (sql: Query, schema: string): Promise<ReadonlyArray<string>> => {
  const table = sql.unsafe(`${quoteSchema(schema)}.messages`)
  // A plan without the partial indexes would read every published message.
  await sql`SET LOCAL enable_seqscan = off`
  const rows = await sql<{ destination: string }[]>`
    SELECT destination FROM (
      (SELECT destination FROM ${table}
       WHERE published_at IS NULL AND dead_at IS NULL AND available_at IS NULL ORDER BY position LIMIT ${ROWS}::int)
      UNION
      (SELECT destination FROM ${table}
       WHERE published_at IS NULL AND dead_at IS NULL AND available_at IS NOT NULL ORDER BY available_at LIMIT ${ROWS}::int)
      UNION
      (SELECT destination FROM ${table}
       WHERE published_at IS NULL AND dead_at IS NULL AND attempts > 0 ORDER BY position LIMIT ${ROWS}::int)
      UNION
      (SELECT destination FROM ${table} ORDER BY position DESC LIMIT ${ROWS}::int)
    ) m
    GROUP BY destination ORDER BY destination LIMIT ${MOST}::int`
  return rows.map(({ destination }) => destination)
}
