/** Key and body of messages as SQL on the rows that an insert has written. */
import { type SQL, sql } from "drizzle-orm"
import { PgDialect, type PgTable } from "drizzle-orm/pg-core"
import type { BodyColumns } from "./body.ts"
import { columnSql } from "./column.ts"
import type { CompiledEvent } from "./event.ts"
import { type NamedColumn, namedColumns, primaryKey } from "./key.ts"
import { quoted, refuseSql } from "./refusal.ts"

/** What the messages of one destination are made of, as SQL on the columns of `written`. */
export interface Part {
  readonly event: CompiledEvent
  readonly destination: string
  readonly version: string | undefined
  readonly contentType: string
  readonly key: string
  readonly body: string
}

/** An event's messages, one for each destination; undefined when SQL cannot make one of them. */
export const partsOf = (
  event: CompiledEvent,
  schema: string,
  table: PgTable,
): readonly Part[] | undefined => {
  const { when, headers, availableAt, key } = event.options
  if (when !== undefined || availableAt !== undefined) return undefined
  if (typeof headers === "function" || typeof key === "function") return undefined
  const json = jsonOf(event, schema, namedColumns(table))
  const { keyColumn } = event
  const keyColumns = keyColumn === undefined ? primaryKey(table) : [keyColumn]
  const keyText = key === null ? "NULL::text" : keySql(event, schema, keyColumns, json)
  if (keyText === undefined) return undefined
  const parts: Part[] = []
  for (const { destinations, columns: made, version, contentType } of event.publications) {
    const body = made && bodySql(made, json)
    if (destinations === undefined || body === undefined) return undefined
    for (const destination of destinations)
      parts.push({ event, destination, version, contentType, key: keyText, body })
  }
  return parts
}

type JsonOf = (property: string) => string | undefined

/** The JSON form of a column of `written`, whose columns are named by their places; undefined where SQL cannot make it. */
const jsonOf =
  (event: CompiledEvent, schema: string, columns: readonly NamedColumn[]): JsonOf =>
  (property) => {
    const place = columns.findIndex((column) => column.property === property)
    const column = columns[place]?.column
    const form =
      column &&
      columnSql(column, sql.raw(`"c${place}"`), (words) =>
        refuseSql(schema, quoted(event.name), "unencodable", words),
      )
    return form && textOf(form)
  }

const dialect = new PgDialect()
/** An expression without parameters as text. */
export const textOf = (expression: SQL): string => dialect.sqlToQuery(expression).sql

const bodySql = (columns: BodyColumns, json: JsonOf): string | undefined => {
  const pieces: string[] = []
  for (const [index, [property, start]] of columns.entries()) {
    const form = json(property)
    if (form === undefined) return undefined
    pieces.push(textOf(quoted(`${index === 0 ? "{" : ","}${start}`)), `coalesce(${form}, 'null'::json)`)
  }
  return concat([...pieces, `'}'`])
}

/** `concat` takes no more than 100 arguments. */
const concat = (pieces: readonly string[]): string => {
  const calls: string[] = []
  for (let start = 0; start < pieces.length; start += 100)
    calls.push(`concat(${pieces.slice(start, start + 100).join(", ")})`)
  return calls.join(" || ")
}

/** The key that columns make, as `keyOfColumns` makes it. */
const keySql = (
  event: CompiledEvent,
  schema: string,
  columns: readonly NamedColumn[],
  json: JsonOf,
): string | undefined => {
  const forms = columns.map(({ property }) => json(property))
  const [only] = columns
  if (only === undefined || forms.includes(undefined)) return undefined
  if (forms.length > 1)
    return concat(forms.flatMap((form, index) => [index === 0 ? "'['" : "','", `${form}`]).concat("']'"))
  const text = `(${forms[0]} #>> '{}')`
  if (NO_BREAKS.has(only.column.columnType)) return text
  const refusal = refuseSql(
    schema,
    quoted(event.name),
    "key",
    sql`concat('the key ', to_json(${sql.raw(text)}), ' contains CR, LF or NUL')`,
  )
  return `CASE WHEN ${text} ~ '[\\r\\n]' THEN ${textOf(refusal)} ELSE ${text} END`
}

/** Types whose text has no line breaks. */
const NO_BREAKS: ReadonlySet<string> = new Set([
  "PgBigInt53",
  "PgBigInt64",
  "PgBigSerial53",
  "PgBigSerial64",
  "PgInteger",
  "PgSerial",
  "PgSmallInt",
  "PgSmallSerial",
  "PgUUID",
])
