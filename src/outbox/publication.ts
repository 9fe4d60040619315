/** One of an event's destinations, with its version and body. */
import type { PgTable } from "drizzle-orm/pg-core"
import { type BodyColumns, type BodySchema, type Encoder, encoder, plainColumns } from "./body.ts"
import { refused } from "./error.ts"
import { headerFault } from "./headers.ts"

/** What happened to a row, or that there is none (`emit`). An upsert reports `upsert`, whether it inserted or updated. */
export type Operation = "insert" | "update" | "delete" | "upsert" | "emit"

/** What the functions of a definition learn besides the row. */
export interface WriteContext<Row> {
  readonly operation: Operation
  /** The row before an update or upsert, or as deleted, when the event asks for it (`old: true`); else undefined. */
  readonly old: Row | undefined
}

/** A destination, a list of them for the same message twice, or either as a function of the row (an empty list: nowhere). */
export type Destination<Row> =
  | string
  | readonly string[]
  | ((row: Row, context: WriteContext<Row>) => string | readonly string[])

/** Where a message goes and with which body: of `serializer`, `fields` or, without either, the whole row. */
export interface Publication<Row> {
  /** As the broker knows it: `/topic/orders`, `/queue/audit`. */
  readonly destination: Destination<Row>
  /** Appended to the destination with a dot and sent as `outbox-version`. */
  readonly version?: string
  /** Builds the body: any value with a JSON form, or with `contentType` a string or bytes. */
  readonly serializer?: (row: Row, context: WriteContext<Row>) => unknown
  /** The properties of the row that make the body, in this order. */
  readonly fields?: readonly (keyof Row & string)[]
  /** An Effect Schema encodes the body; any other Standard Schema checks it as the consumer will see it. */
  readonly schema?: BodySchema
  /** Says that `serializer` returns the body itself, in this type. Default: JSON, `application/json`. */
  readonly contentType?: string
}

/** A publication whose row type is known from nothing but its serializer. */
export interface NamedPublication extends Omit<Publication<never>, "serializer" | "fields" | "destination"> {
  readonly destination: Destination<never>
  readonly serializer: (row: never, context: WriteContext<never>) => unknown
  readonly fields?: NeedsTable<"`fields`">
}

/** What an option of an event without `table` is told. */
export interface NeedsTable<What extends string> {
  readonly "~error": `${What} needs \`table\`: the event's name alone tells the compiler nothing about the row`
}

/** A publication ready to write. */
export interface CompiledPublication {
  /** Undefined when it is computed for each row. */
  readonly destinations: readonly string[] | undefined
  readonly resolve: (row: unknown, context: WriteContext<unknown>) => readonly string[]
  readonly version: string | undefined
  readonly contentType: string
  readonly schema: BodySchema | undefined
  readonly encode: Encoder
  /** What the body is made of where only columns make it. */
  readonly columns: BodyColumns | undefined
}

/** The options of a publication, by name. */
export const PUBLICATION_OPTIONS = [
  "destination",
  "version",
  "serializer",
  "fields",
  "schema",
  "contentType",
] as const

/** Checks a publication of `event`; throws an `OutboxError` of reason `definition`. */
export const compilePublication = (
  event: string,
  table: PgTable | undefined,
  publication: Publication<unknown>,
): CompiledPublication => {
  const wrong = (words: string) => refused(event, "definition", words)
  const { destination, version, contentType = "application/json" } = publication
  if (version !== undefined && (typeof version !== "string" || version === ""))
    throw wrong("the version is no text; leave it out or give one")
  const versionFault = version === undefined ? undefined : headerFault(version)
  if (versionFault !== undefined) throw wrong(`the version ${versionFault}`)
  if (contentType === "" || headerFault(contentType) !== undefined)
    throw wrong("the content type is empty or has a character that no header can carry")
  const suffixed = (name: string) => (version === undefined ? name : `${name}.${version}`)
  const checked = (names: unknown, reason: "definition" | "destination"): readonly string[] =>
    (Array.isArray(names) ? names : [names]).map((name: unknown) => {
      const fault = typeof name !== "string" ? "is no text" : name === "" ? "is empty" : headerFault(name)
      if (fault !== undefined)
        throw refused(event, reason, `the destination ${JSON.stringify(name) ?? "undefined"} ${fault}`)
      return suffixed(name as string)
    })
  const shared = {
    version,
    contentType,
    schema: publication.schema,
    encode: encoder(event, table, publication),
    columns: plainColumns(event, table, publication),
  }
  if (typeof destination === "function")
    return {
      ...shared,
      destinations: undefined,
      resolve: (row, context) => checked(destination(row, context), "destination"),
    }
  const destinations = checked(destination, "definition")
  if (destinations.length === 0) throw wrong("the list of destinations is empty")
  return { ...shared, destinations, resolve: () => destinations }
}
