/**
 * The JSON form of every PostgreSQL column type: one table, from which the bodies built in JavaScript, those built in
 * SQL and docs/columns.md derive.
 */
import { type SQL, sql } from "drizzle-orm"
import type { PgArray, PgColumn, PgTable } from "drizzle-orm/pg-core"
import { base64, isoText, type JsonForm, jsonText, NoJsonForm } from "./json.ts"

/** How values of one column type become JSON. `null` is `null` for all of them and never reaches these functions. */
export interface ColumnForm {
  /** The form in words, as docs/columns.md has it. */
  readonly form: string
  /** The JSON text of a value that Drizzle returned. Throws `NoJsonForm`. */
  readonly js: (value: unknown, column: PgColumn) => string
  /**
   * A SQL expression of type json with the same text, byte for byte; only where a test proves it. What has no JSON form
   * is `refuse`d in words.
   */
  readonly sql?: (expression: SQL, refuse: Refuse, column: PgColumn) => SQL
}

/** A SQL expression of type text that fails with these words. */
export type Refuse = (words: SQL) => SQL

const own = (expression: SQL): SQL => sql`to_json(${expression})`
const asText = (expression: SQL): SQL => sql`to_json((${expression})::text)`

const text: ColumnForm = { form: "string", js: jsonText, sql: own }
const integer: ColumnForm = { form: "number", js: jsonText, sql: own }
const float: ColumnForm = { form: "number; NaN and infinities are refused", js: jsonText }
/** The digits, whichever `mode` the column has: JSON numbers lose them past 2^53. */
const digits: ColumnForm = {
  form: "string of digits, in every mode",
  js: (value) => {
    if (Number.isNaN(value)) throw new NoJsonForm("NaN has no JSON form as an integer")
    return JSON.stringify(String(value))
  },
  sql: asText,
}
const decimal: ColumnForm = {
  form: "string, as PostgreSQL writes it (NaN and Infinity too)",
  js: (value) => JSON.stringify(String(value)),
  sql: asText,
}
const lossyDecimal: ColumnForm = {
  form: "string of the JavaScript number (trailing zeros and far digits are lost in this mode)",
  js: decimal.js,
}
const numbers: ColumnForm = { form: "array of numbers", js: jsonText }
const asIs: ColumnForm = { form: "the JSON value itself", js: jsonText }
const timestamp: ColumnForm = {
  form: "string, ISO-8601 UTC with milliseconds, 1000-01-01 to 9999-12-30; without time zone it counts as UTC",
  js: (value) => `"${value instanceof Date ? isoText(value) : timestampText(String(value))}"`,
  sql: (expression, refuse, column) => {
    const zoned = (column as PgColumn & { readonly withTimezone: boolean }).withTimezone
    const utc = zoned ? sql`(${expression}) AT TIME ZONE 'UTC'` : sql`(${expression})`
    return sql`CASE WHEN ${utc} >= '1000-01-01' AND ${utc} < '9999-12-31' THEN to_json(to_char(${utc}, 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')) WHEN (${expression}) IS NOT NULL THEN to_json(${refuse(sql`concat('the timestamp ', to_json((${expression})::text), ' has no JSON form')`)}) END`
  },
}

/** `columnType` (as Drizzle names it) → JSON form. */
export const columnForms: Readonly<Record<string, ColumnForm>> = {
  PgSmallInt: integer,
  PgSmallSerial: integer,
  PgInteger: integer,
  PgSerial: integer,
  PgBigInt53: digits,
  PgBigInt64: digits,
  PgBigSerial53: digits,
  PgBigSerial64: digits,
  PgNumeric: decimal,
  PgNumericBigInt: { ...digits, form: "string of digits" },
  PgNumericNumber: lossyDecimal,
  PgReal: float,
  PgDoublePrecision: float,
  PgBoolean: { form: "true or false", js: jsonText, sql: own },
  PgText: text,
  PgVarchar: text,
  PgChar: { ...text, form: "string, with its padding" },
  PgUUID: text,
  PgEnumColumn: text,
  PgEnumObjectColumn: text,
  PgTimestamp: timestamp,
  PgTimestampString: timestamp,
  PgDate: {
    form: "string, YYYY-MM-DD",
    js: (value) => (value instanceof Date ? `"${isoText(value).slice(0, 10)}"` : jsonText(value)),
  },
  PgDateString: { form: "string, YYYY-MM-DD", js: jsonText, sql: own },
  PgTime: { form: "string, as PostgreSQL writes it", js: jsonText, sql: own },
  PgInterval: { form: "string, as PostgreSQL writes it (IntervalStyle)", js: jsonText, sql: own },
  PgInet: text,
  PgCidr: text,
  PgMacaddr: text,
  PgMacaddr8: text,
  PgJson: asIs,
  PgJsonb: asIs,
  PgPointTuple: { form: "[x, y]", js: jsonText },
  PgPointObject: { form: '{"x": x, "y": y}', js: jsonText },
  PgLine: { form: "[a, b, c]", js: jsonText },
  PgLineABC: { form: '{"a": a, "b": b, "c": c}', js: jsonText },
  PgGeometry: { form: "[x, y]", js: jsonText },
  PgGeometryObject: { form: '{"x": x, "y": y}', js: jsonText },
  PgBinaryVector: { form: "string of 0 and 1", js: jsonText },
  PgVector: numbers,
  PgHalfVector: numbers,
  PgSparseVector: { form: "string, as pgvector writes it", js: jsonText },
  PgArray: {
    form: "array of the element's form, nested as it is, null for NULL",
    js: (value, column) => arrayText(value, (column as PgArray<never, never>).baseColumn as PgColumn),
  },
  PgCustomColumn: {
    form: "by the value that fromDriver returns: bytes (bytea) as base64, Date as ISO-8601 UTC, bigint as string",
    js: (value) => (value instanceof Uint8Array ? `"${base64(value)}"` : jsonText(value)),
  },
}

/** The JSON text of a column's value. Throws `NoJsonForm`. */
export const columnText = (column: PgColumn, value: unknown): string =>
  value === null ? "null" : (columnForms[column.columnType]?.js ?? jsonText)(value, column)

/** The SQL expression with the same text as `columnText`, or undefined where none is proved equal. NULL stays NULL. */
export const columnSql = (column: PgColumn, expression: SQL, refuse: Refuse): SQL | undefined =>
  columnForms[column.columnType]?.sql?.(expression, refuse, column)

const arrayText = (value: unknown, element: PgColumn): string => {
  if (!Array.isArray(value)) return jsonText(value)
  // A nested array of a one-dimensional column declaration keeps its element's form.
  return `[${value.map((item) => (Array.isArray(item) && element.columnType !== "PgArray" && !structured.has(element.columnType) ? arrayText(item, element) : columnText(element, item))).join(",")}]`
}

/** Types whose single value is an array in JavaScript. */
const structured = new Set([
  "PgPointTuple",
  "PgLine",
  "PgGeometry",
  "PgVector",
  "PgHalfVector",
  "PgJson",
  "PgJsonb",
])

const TIMESTAMP =
  /^(\d{4})-(\d\d)-(\d\d)[ T](\d\d):(\d\d):(\d\d)(\.\d+)?(?:Z|([+-])(\d\d):?(\d\d)?(?::(\d\d))?)?$/

/** PostgreSQL's timestamp text (DateStyle ISO) as ISO-8601 UTC with milliseconds, further digits cut off. */
const timestampText = (written: string): string => {
  const match = TIMESTAMP.exec(written)
  if (match === null) throw new NoJsonForm(`the timestamp ${JSON.stringify(written)} has no JSON form`)
  const [, year, month, day, hour, minute, second, fraction, sign, hours, minutes, seconds] = match
  const date = new Date(0)
  date.setUTCFullYear(Number(year), Number(month) - 1, Number(day))
  date.setUTCHours(
    Number(hour),
    Number(minute),
    Number(second),
    Number((fraction ?? ".").padEnd(4, "0").slice(1, 4)),
  )
  const offset = (Number(hours ?? 0) * 60 + Number(minutes ?? 0)) * 60 + Number(seconds ?? 0)
  return isoText(new Date(date.getTime() - (sign === "-" ? -offset : offset) * 1000))
}

type AlwaysText =
  | "PgBigInt53"
  | "PgBigInt64"
  | "PgBigSerial53"
  | "PgBigSerial64"
  | "PgDate"
  | "PgDateString"
  | "PgNumeric"
  | "PgNumericBigInt"
  | "PgNumericNumber"
  | "PgTimestamp"
  | "PgTimestampString"

type NotNullForm<C extends PgColumn> = C["_"]["columnType"] extends AlwaysText
  ? string
  : C["_"]["columnType"] extends "PgArray"
    ? C["_"]["baseColumn"] extends PgColumn
      ? NotNullForm<C["_"]["baseColumn"]>[]
      : JsonForm<C["_"]["data"]>
    : JsonForm<C["_"]["data"]>

/** The type of a column's value in a body. */
export type ColumnJson<C extends PgColumn> = NotNullForm<C> | (C["_"]["notNull"] extends true ? never : null)

/** The type of a body made of a table's columns. */
export type RowJson<T extends PgTable, K = keyof T["_"]["columns"]> = {
  [P in keyof T["_"]["columns"] & K]: ColumnJson<T["_"]["columns"][P]>
} & {}
