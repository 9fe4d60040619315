/** The one statement that writes messages. */
import { type SQL, sql } from "drizzle-orm"
import type { PgTransaction } from "drizzle-orm/pg-core"
import { quoteSchema } from "../store/schema-name.ts"
import { OutboxError } from "./error.ts"

/** Any Drizzle transaction on PostgreSQL, whatever its driver and schema. */
// biome-ignore lint/suspicious/noExplicitAny: only `any` accepts the transaction of every driver and every schema.
export type AnyTransaction = PgTransaction<any, any, any>

/** A message before it has an id; `group` is the same for the publications of one row's event. */
export interface Draft {
  readonly group: number
  readonly event: string
  readonly operation: string
  readonly destination: string
  readonly version: string | null
  readonly key: string | null
  /** JSON text of an object of strings. */
  readonly headers: string
  readonly contentType: string
  readonly body: string | Uint8Array
  /** When it is due: a moment, milliseconds from the write, or null for at once. */
  readonly due: Date | number | null
  /** Milliseconds from the moment it is due; null for no end. */
  readonly timeToLive: number | null
}

/** Writes `drafts` in their order: one statement with one parameter, for any number of them. */
export const append = async (tx: AnyTransaction, schema: string, drafts: readonly Draft[]): Promise<void> => {
  if (drafts.length === 0) return
  const text = parameter(drafts)
  await tx.execute(sql`${insertInto(schema)[0]}${text}${insertInto(schema)[1]}`)
}

const parameter = (drafts: readonly Draft[]): string => {
  try {
    return `[${drafts.map(draftText).join(",")}]`
  } catch (cause) {
    throw new OutboxError({
      reason: "too-large",
      message: "the messages of this call do not fit into one statement: write fewer rows a call",
      cause,
    })
  }
}

const draftText = (draft: Draft): string => {
  const body =
    typeof draft.body === "string"
      ? draft.body.includes("\0")
        ? // PostgreSQL's text has no NUL.
          `"bytes":"${Buffer.from(draft.body).toString("base64")}"`
        : `"body":${JSON.stringify(draft.body)}`
      : `"bytes":"${Buffer.from(draft.body.buffer, draft.body.byteOffset, draft.body.byteLength).toString("base64")}"`
  const due =
    draft.due === null
      ? ""
      : typeof draft.due === "number"
        ? `,"delay":${draft.due}`
        : `,"due":"${draft.due.toISOString()}"`
  return (
    `{"group":${draft.group},"event":${JSON.stringify(draft.event)},"operation":"${draft.operation}",` +
    `"destination":${JSON.stringify(draft.destination)},"version":${JSON.stringify(draft.version)},` +
    `"key":${JSON.stringify(draft.key)},"headers":${draft.headers},` +
    `"content_type":${JSON.stringify(draft.contentType)},${body}${due}` +
    `${draft.timeToLive === null ? "" : `,"life":${draft.timeToLive}`}}`
  )
}

/**
 * The statement around its parameter. Each group's event id is drawn once, in a materialized CTE; the messages' own ids
 * are the column's default. A due moment that has come is null, as the relay's index of ready messages wants it.
 */
const insertInto = (schema: string): readonly [SQL, SQL] => {
  const known = statements.get(schema)
  if (known !== undefined) return known
  const name = quoteSchema(schema)
  const statement = [
    sql.raw(`WITH draft AS MATERIALIZED (
  SELECT *, CASE WHEN "due" > clock_timestamp() THEN "due"
                 WHEN "delay" > 0 THEN clock_timestamp() + "delay" * interval '1 millisecond' END AS "available_at"
  FROM ROWS FROM (json_to_recordset(`),
    sql.raw(`::text::json) AS (
    "group" integer, "event" text, "operation" text, "destination" text, "version" text, "key" text, "headers" json,
    "content_type" text, "body" text, "bytes" text, "due" timestamptz, "delay" double precision, "life" double precision
  )) WITH ORDINALITY AS d ("group", "event", "operation", "destination", "version", "key", "headers", "content_type",
    "body", "bytes", "due", "delay", "life", "ordinal")
), occurrence AS MATERIALIZED (
  SELECT "group", ${name}."uuid_v7"() AS "event_id" FROM (SELECT DISTINCT "group" FROM draft) AS g
)
INSERT INTO ${name}."messages" ("event", "event_id", "operation", "destination", "version", "key", "headers",
  "content_type", "body", "body_bytes", "available_at", "expires_at")
SELECT "event", "event_id", "operation", "destination", "version", "key", "headers", "content_type", "body",
  decode("bytes", 'base64'), "available_at",
  coalesce("available_at", clock_timestamp()) + "life" * interval '1 millisecond'
FROM draft JOIN occurrence USING ("group")
ORDER BY "ordinal"`),
  ] as const
  statements.set(schema, statement)
  return statement
}

const statements = new Map<string, readonly [SQL, SQL]>()

/** Makes a transaction one that can only roll back. */
export const poison = async (tx: AnyTransaction): Promise<void> => {
  try {
    await tx.execute(POISON)
  } catch {
    // Failing is its purpose.
  }
}

const POISON = sql.raw(
  `DO $$ BEGIN RAISE EXCEPTION 'drizzle-outbox refused a message: this transaction can only roll back'; END $$`,
)
