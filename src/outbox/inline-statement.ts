/** The text of an insert that writes its messages too. */
import { getTableColumns, type Query, sql } from "drizzle-orm"
import type { PgTable } from "drizzle-orm/pg-core"
import { quoteSchema } from "../store/schema-name.ts"
import { type Part, textOf } from "./inline-parts.ts"
import { refuseSql } from "./refusal.ts"

export interface InlineSettings {
  /** The outbox's. */
  readonly schema: string
  readonly maxBodyBytes: number
}

/**
 * The insert in `WITH`, the messages of its rows beside it, and the rows as its result. Its parameters are followed by
 * those of each part: event, destination, version, headers and content type, with `timed` also moment, delay and life.
 *
 * The messages of one part are in the order of the rows. Several parts are sorted row by row, and the parts of one event
 * share its event id. Bodies are measured once they are made: `OFFSET 0` keeps PostgreSQL from making them twice.
 */
export const inlineStatement = (
  { schema, maxBodyBytes }: InlineSettings,
  table: PgTable,
  insert: Query,
  parts: readonly Part[],
  timed: boolean,
): string => {
  const outbox = quoteSchema(schema)
  const columns = Object.keys(getTableColumns(table)).map((_, place) => `"c${place}"`)
  const messages = parts.map((part, index) =>
    members(part, insert.params.length + index * (timed ? 8 : 5), timed),
  )
  const several = messages.length > 1
  const names = ["event", "destination", "version", "key", "headers", "content_type"]
  if (several) names.push("event_id")
  if (timed) names.push("available_at")
  const list = names.map((name) => `"${name}"`).join(", ")
  const tooLarge = refuseSql(
    schema,
    sql.raw(`"event"`),
    "too-large",
    sql.raw(`concat('the body has ', octet_length("body"), ' bytes, over the limit of ${maxBodyBytes}')`),
  )
  return `WITH written (${columns.join(", ")}) AS (${insert.sql}), told AS (
  INSERT INTO ${outbox}."messages" ("operation", ${list}${timed ? `, "expires_at"` : ""}, "body")
  SELECT 'insert', ${list}${timed ? `, coalesce("available_at", clock_timestamp()) + "life"` : ""},
    CASE WHEN octet_length("body") > ${maxBodyBytes} THEN ${textOf(tooLarge)} ELSE "body" END
  FROM (${several ? sorted(outbox, parts, messages) : single(messages[0] ?? {})}) AS m
) SELECT * FROM written`
}

/** The columns of a part's message by name; its parameters come after `before` others. */
const members = ({ key, body }: Part, before: number, timed: boolean): Readonly<Record<string, string>> => {
  const parameter = (place: number) => `$${before + place}::text`
  const [due, delay] = [`${parameter(6)}::timestamptz`, `${parameter(7)}::float8`]
  return {
    event: parameter(1),
    destination: parameter(2),
    version: parameter(3),
    key,
    headers: `${parameter(4)}::json`,
    content_type: parameter(5),
    body,
    ...(timed && {
      available_at: `CASE WHEN ${due} > clock_timestamp() THEN ${due} WHEN ${delay} > 0 THEN clock_timestamp() + ${delay} * interval '1 millisecond' END`,
      life: `${parameter(8)}::float8 * interval '1 millisecond'`,
    }),
  }
}

const single = (message: Readonly<Record<string, string>>): string => {
  const list = Object.entries(message).map(([name, expression]) => `${expression} AS "${name}"`)
  return `SELECT ${list.join(", ")} FROM written OFFSET 0`
}

const sorted = (
  outbox: string,
  parts: readonly Part[],
  messages: readonly Readonly<Record<string, string>>[],
): string => {
  const events = [...new Set(parts.map(({ event }) => event))]
  const ids = events.map((_, index) => `${outbox}."uuid_v7"() AS "e${index}"`)
  const rows = messages.map(
    (message, index) =>
      `(${index}, "e${events.indexOf(parts[index]!.event)}", ${Object.values(message).join(", ")})`,
  )
  const names = Object.keys(messages[0]!).map((name) => `"${name}"`)
  return `SELECT p.* FROM (SELECT row_number() OVER () AS "row", ${ids.join(", ")}, * FROM written) AS w
    CROSS JOIN LATERAL (VALUES ${rows.join(", ")}) AS p ("part", "event_id", ${names.join(", ")})
    ORDER BY "row", "part"`
}
