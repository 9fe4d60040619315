/** The body of a message: one JSON value whoever builds it, or a text or bytes of the user's own. */
import { getTableColumns } from "drizzle-orm"
import type { PgColumn, PgTable } from "drizzle-orm/pg-core"
import * as Exit from "effect/Exit"
import * as Schema from "effect/Schema"
import type * as StandardSchema from "effect/StandardSchema"
import { columnText, type RowJson } from "./column.ts"
import { OutboxError, refused } from "./error.ts"
import { type JsonForm, jsonText, NoJsonForm } from "./json.ts"
import type { Publication, WriteContext } from "./publication.ts"

/**
 * What may check a body. An Effect Schema without services *encodes* it: the serializer (or the row) gives its decoded
 * type, the body is that value through `Schema.toCodecJson`. Any other Standard Schema only *checks* the JSON as a
 * consumer will see it: what it returns is thrown away.
 */
// biome-ignore lint/suspicious/noExplicitAny: a schema of any type.
export type BodySchema = Schema.Codec<any, any, never, never> | StandardSchema.StandardSchemaV1<any, any>

/** Makes the body of one message. Throws (or rejects with) an `OutboxError`. */
export type Encoder = (
  row: unknown,
  context: WriteContext<unknown>,
) => string | Uint8Array | Promise<string | Uint8Array>

/** Checks what makes the bodies of a publication of `event`; throws an `OutboxError` of reason `definition`. */
export const encoder = (
  event: string,
  table: PgTable | undefined,
  publication: Publication<unknown>,
): Encoder => {
  const wrong = (words: string) => refused(event, "definition", words)
  const { serializer, schema, contentType } = publication
  const fields = publication.fields as readonly string[] | undefined
  if (serializer !== undefined && typeof serializer !== "function")
    throw wrong("the serializer is no function")
  if (serializer !== undefined && fields !== undefined)
    throw wrong("a body comes from `serializer` or from `fields`, not from both")
  if (contentType !== undefined && serializer === undefined)
    throw wrong("`contentType` says what the serializer returns: it needs a serializer")
  if (contentType !== undefined && schema !== undefined)
    throw wrong("a schema checks JSON: it cannot go with `contentType`")
  if (contentType !== undefined) return (row, context) => ownBody(event, serializer?.(row, context))
  const columns = rowColumns(event, table, serializer === undefined, fields)
  const text = (row: unknown, context: WriteContext<unknown>): string =>
    serializer === undefined
      ? rowText(columns, row as Readonly<Record<string, unknown>>)
      : jsonText(serializer(row, context))
  const encode: Encoder =
    schema === undefined
      ? text
      : Schema.isSchema(schema)
        ? effectEncoder(event, schema as Schema.Codec<unknown>, (row, context) =>
            serializer === undefined ? picked(columns, row) : serializer(row, context),
          )
        : standardEncoder(event, schema as StandardSchema.StandardSchemaV1, text)
  return (row, context) => {
    try {
      return encode(row, context)
    } catch (cause) {
      throw encodingError(event, cause)
    }
  }
}

/** The columns of a body, each with the text that begins its member. */
export type BodyColumns = readonly (readonly [property: string, start: string, column: PgColumn])[]

/** The columns of a body that no function and no schema has a part in; undefined for any other. */
export const plainColumns = (
  event: string,
  table: PgTable | undefined,
  { serializer, schema, fields }: Publication<unknown>,
): BodyColumns | undefined =>
  serializer === undefined && schema === undefined ? rowColumns(event, table, true, fields) : undefined

/** The columns of a body that no serializer builds. */
const rowColumns = (
  event: string,
  table: PgTable | undefined,
  needed: boolean,
  fields: readonly string[] | undefined,
): BodyColumns => {
  if (!needed) return []
  if (table === undefined)
    throw refused(
      event,
      "definition",
      "without `table` a body needs a `serializer`: the columns are not known",
    )
  const columns: Readonly<Record<string, PgColumn>> = getTableColumns(table)
  if (fields !== undefined && fields.length === 0) throw refused(event, "definition", "`fields` is empty")
  return (fields ?? Object.keys(columns)).map((property) => {
    const column = Object.hasOwn(columns, property) ? columns[property] : undefined
    if (column === undefined)
      throw refused(event, "definition", `the table has no column ${JSON.stringify(property)} for \`fields\``)
    return [property, `${JSON.stringify(property)}:`, column] as const
  })
}

const rowText = (columns: BodyColumns, row: Readonly<Record<string, unknown>>): string => {
  let text = "{"
  for (const [property, start, column] of columns) {
    const value = row[property]
    if (value !== undefined) text += (text.length === 1 ? "" : ",") + start + columnText(column, value)
  }
  return `${text}}`
}

const picked = (columns: BodyColumns, row: unknown): Record<string, unknown> =>
  Object.fromEntries(columns.map(([property]) => [property, (row as Record<string, unknown>)[property]]))

const ownBody = (event: string, value: unknown): string | Uint8Array => {
  if (value instanceof Uint8Array) return value
  if (typeof value !== "string")
    throw refused(event, "unencodable", "with `contentType` the serializer returns a string or bytes")
  if (/\p{Surrogate}/u.test(value))
    throw refused(event, "unencodable", "the text has a lone surrogate, which UTF-8 cannot carry")
  return value
}

const effectEncoder = (
  event: string,
  schema: Schema.Codec<unknown>,
  value: (row: unknown, context: WriteContext<unknown>) => unknown,
): Encoder => {
  const encode = Schema.encodeUnknownExit(Schema.toCodecJson(schema))
  return (row, context) => {
    const exit = encode(value(row, context))
    if (Exit.isSuccess(exit)) return jsonText(exit.value)
    const [reason] = exit.cause.reasons
    const cause = reason?._tag === "Fail" ? reason.error : reason?._tag === "Die" ? reason.defect : exit.cause
    throw refused(event, "schema", `the schema does not accept the body: ${words(cause)}`, cause)
  }
}

const standardEncoder =
  (
    event: string,
    schema: StandardSchema.StandardSchemaV1,
    text: (row: unknown, context: WriteContext<unknown>) => string,
  ): Encoder =>
  (row, context) => {
    const body = text(row, context)
    const settle = (result: StandardSchema.StandardSchemaV1.Result<unknown>): string => {
      if (!result.issues) return body
      const issues = result.issues.map(({ message }) => message).join("; ")
      throw refused(event, "schema", `the schema does not accept the body: ${issues}`, result.issues)
    }
    const result = schema["~standard"].validate(JSON.parse(body))
    return result instanceof Promise ? result.then(settle) : settle(result)
  }

/** What an encoder threw, as an `OutboxError`. */
export const encodingError = (event: string, cause: unknown): OutboxError =>
  cause instanceof OutboxError
    ? cause
    : cause instanceof NoJsonForm
      ? refused(event, "unencodable", cause.message, cause)
      : cause instanceof RangeError && /call stack|string length/.test(cause.message)
        ? refused(
            event,
            "unencodable",
            "the body is nested too deeply, refers to itself or is too long",
            cause,
          )
        : refused(event, "callback", `a function of the definition threw: ${words(cause)}`, cause)

const words = (cause: unknown): string => (cause instanceof Error ? cause.message : String(cause))

/** The type in which a consumer reads the body of a publication `P` of table `T`. */
export type PublicationBody<P, T> = P extends { readonly schema: infer S extends Schema.Top }
  ? S["Type"]
  : P extends { readonly contentType: string; readonly serializer: (...args: never) => infer B }
    ? B
    : P extends { readonly serializer: (...args: never) => infer B }
      ? JsonForm<B>
      : T extends PgTable
        ? P extends { readonly fields: readonly (infer F)[] }
          ? RowJson<T, F>
          : RowJson<T>
        : unknown
