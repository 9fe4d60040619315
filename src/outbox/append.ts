/** The one statement that writes messages. */
import { sql } from "drizzle-orm"
import type { PgTransaction } from "drizzle-orm/pg-core"
import { quoteSchema } from "../store/schema-name.ts"
import { OutboxError } from "./error.ts"
import { base64 } from "./json.ts"
import { run } from "./prepared.ts"

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

/** Writes `drafts` in their order: one statement, whose text is one of two, so that a connection prepares it once. */
export const append = async (tx: AnyTransaction, schema: string, drafts: readonly Draft[]): Promise<void> => {
  const [first] = drafts
  if (first === undefined) return
  if (drafts.length === 1)
    await run(
      tx,
      statements(schema).one,
      COLUMNS.map(([, , text]) => text(first)),
    )
  else await run(tx, statements(schema).many, lists(drafts))
}

type Text = string | null

/** The drafts as array literals: the count of groups, each draft's group from 1, and the columns. */
const lists = (drafts: readonly Draft[]): Text[] => {
  let groups = 0
  let last: number | undefined
  let places = ""
  for (const { group } of drafts) {
    if (group !== last) groups++
    places += last === undefined ? groups : `,${groups}`
    last = group
  }
  try {
    return [String(groups), `{${places}}`, ...COLUMNS.map(([, , text]) => list(drafts, text))]
  } catch (cause) {
    throw new OutboxError({
      reason: "too-large",
      message: "the messages of this call do not fit into one statement: write fewer rows a call",
      cause,
    })
  }
}

/** An array literal; null stands for nothing but nulls. Most columns have one value over and over: it is written once. */
const list = (drafts: readonly Draft[], text: (draft: Draft) => Text): Text => {
  const values = drafts.map(text)
  const [first = null] = values
  if (values.every((value) => value === first)) {
    if (first === null) return null
    const element = quoted(first)
    return `{${`${element},`.repeat(values.length - 1)}${element}}`
  }
  let elements = ""
  for (const value of values)
    elements += `${elements === "" ? "" : ","}${value === null ? "NULL" : quoted(value)}`
  return `{${elements}}`
}

/** JSON escapes control characters and surrogates as an array cannot read them; all else alike, at a quarter of the time. */
const quoted = (element: string): string =>
  /[^ -\ud7ff\ue000-\uffff]/.test(element)
    ? `"${element.replace(/["\\]/g, "\\$&")}"`
    : JSON.stringify(element)

/** PostgreSQL's text has no NUL: such a body travels as bytes. */
const isText = (body: string | Uint8Array): body is string => typeof body === "string" && !body.includes("\0")

/** What a statement is given of each draft: names, types, and the values as texts. */
const COLUMNS: readonly (readonly [name: string, type: string, text: (draft: Draft) => Text])[] = [
  ["event", "text", ({ event }) => event],
  ["operation", "text", ({ operation }) => operation],
  ["destination", "text", ({ destination }) => destination],
  ["version", "text", ({ version }) => version],
  ["key", "text", ({ key }) => key],
  ["headers", "text", ({ headers }) => headers],
  ["content_type", "text", ({ contentType }) => contentType],
  ["body", "text", ({ body }) => (isText(body) ? body : null)],
  [
    "bytes",
    "text",
    ({ body }) => (isText(body) ? null : base64(typeof body === "string" ? Buffer.from(body) : body)),
  ],
  ["due", "timestamptz", ({ due }) => (due instanceof Date ? due.toISOString() : null)],
  ["delay", "float8", ({ due }) => (typeof due === "number" ? String(due) : null)],
  ["life", "float8", ({ timeToLive }) => (timeToLive === null ? null : String(timeToLive))],
]

const INTO = `("event", "operation", "destination", "version", "key", "headers", "content_type", "body", "body_bytes",
  "available_at", "expires_at"`
const VALUES = `"event", "operation", "destination", "version", "key", "headers"::json, "content_type", "body",
  decode("bytes", 'base64'), "available_at",
  coalesce("available_at", clock_timestamp()) + "life" * interval '1 millisecond'`
/** A due moment that has come is null, as the relay's index of ready messages wants it. */
const AVAILABLE = `CASE WHEN "due" > clock_timestamp() THEN "due"
  WHEN "delay" > 0 THEN clock_timestamp() + "delay" * interval '1 millisecond' END AS "available_at"`

/**
 * The statements of a schema. Messages' ids are the column's default, as is the event id of a single one; that of each
 * group is drawn once.
 */
const statements = (schema: string): { readonly one: string; readonly many: string } => {
  const known = texts.get(schema)
  if (known !== undefined) return known
  const name = quoteSchema(schema)
  const names = COLUMNS.map(([column]) => `"${column}"`).join(", ")
  const made = {
    one: `INSERT INTO ${name}."messages" ${INTO})
SELECT ${VALUES}
FROM (SELECT *, ${AVAILABLE} FROM (VALUES (${COLUMNS.map(([, type], index) => `$${index + 1}::text::${type}`).join(", ")})) AS v (${names}) OFFSET 0) AS d`,
    many: `INSERT INTO ${name}."messages" ${INTO}, "event_id")
SELECT ${VALUES}, "ids"["group"]
FROM (SELECT *, ${AVAILABLE} FROM unnest($2::text::integer[], ${COLUMNS.map(
      ([, type], index) => `$${index + 3}::text::${type}[]`,
    ).join(", ")}) WITH ORDINALITY AS u ("group", ${names}, "ordinal") OFFSET 0) AS d,
  (SELECT array_agg(${name}."uuid_v7"()) AS "ids" FROM generate_series(1, $1::text::integer)) AS i
ORDER BY "ordinal"`,
  }
  texts.set(schema, made)
  return made
}

const texts = new Map<string, { readonly one: string; readonly many: string }>()

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
