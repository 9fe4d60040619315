/** What SQL refuses, where it makes the message itself: the same typed error as JavaScript's. */
import { type SQL, sql } from "drizzle-orm"
import { quoteSchema } from "../store/schema-name.ts"
import { type OutboxErrorReason, refused } from "./error.ts"

/** The reasons that only the values of a row can give. */
type Reason = Extract<OutboxErrorReason, "too-large" | "unencodable" | "key">

/** An SQL expression of type text that fails instead: nothing of its statement stays. */
export const refuseSql = (schema: string, event: SQL, reason: Reason, words: SQL): SQL =>
  sql`${sql.raw(quoteSchema(schema))}."refuse"(${event}, ${quoted(reason)}, ${words})`

/** A text as SQL writes it, whatever the session's settings. */
export const quoted = (text: string): SQL =>
  sql.raw(`E'${text.replaceAll("\\", "\\\\").replaceAll("'", "''")}'`)

/** The error that such an expression failed with; any other as it is. */
export const asRefusal = (error: unknown): unknown => {
  for (let cause = error; cause instanceof Error; cause = cause.cause) {
    const { code, detail } = cause as { readonly code?: unknown; readonly detail?: unknown }
    if (code !== "OUTBX" || typeof detail !== "string") continue
    const { event, reason } = JSON.parse(detail) as { event: string; reason: Reason }
    return refused(event, reason, cause.message, error)
  }
  return error
}
