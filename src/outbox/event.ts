/** An entry of `defineOutbox`: what it may say, what the compiler learns from it, and its checked form. */
import { is } from "drizzle-orm"
import { PgTable } from "drizzle-orm/pg-core"
import * as Duration from "effect/Duration"
import type { BodySchema, PublicationBody } from "./body.ts"
import { refused } from "./error.ts"
import { headerFault, headersFault } from "./headers.ts"
import { type NamedColumn, namedColumns, primaryKey } from "./key.ts"
import {
  type CompiledPublication,
  compilePublication,
  type NamedPublication,
  type Operation,
  PUBLICATION_OPTIONS,
  type Publication,
  type WriteContext,
} from "./publication.ts"

/** What an event says about all its publications. `Property` is a name of the row's properties, where they are known. */
export interface EventOptions<Row, Property extends string = never> {
  /** The operations that make a message. Default: all. */
  readonly operations?: readonly Operation[]
  /**
   * The ordering scope: messages of one destination and key keep their order, those of key null have none. A property of
   * the row is taken in its JSON form (a text as it is, null has no order), which an insert leaves to the database.
   * Default: the row's primary key; null for what is emitted by an event without `table`.
   */
  readonly key?: Property | ((row: Row, context: WriteContext<Row>) => string | number | bigint | null) | null
  /** Further headers. */
  readonly headers?:
    | Readonly<Record<string, string>>
    | ((row: Row, context: WriteContext<Row>) => Readonly<Record<string, string>>)
  /** No message where it returns false. */
  readonly when?: (row: Row, context: WriteContext<Row>) => boolean
  /** Locks and reads the rows before an update or upsert, and gives them to the functions as `context.old`. Default false. */
  readonly old?: boolean
  /** When the messages may leave. Default: at once. A moment gone by means at once too; null means no delay. */
  readonly availableAt?: (row: Row, context: WriteContext<Row>) => Date | null
  /** How long after the write they may leave. Default: at once. */
  readonly delay?: Duration.Input
  /** How long after they may leave they are worth sending; then they are dead with that reason. Default: for ever. */
  readonly timeToLive?: Duration.Input
}

type OneOrMore<P> =
  | (P & { readonly publish?: never })
  | ({ readonly [K in keyof P]?: never } & { readonly publish: readonly P[] })

/** An event bound to a table: everything is inferred from it. */
export type TableEvent<T extends PgTable> = EventOptions<
  T["$inferSelect"],
  keyof T["$inferSelect"] & string
> &
  OneOrMore<Publication<T["$inferSelect"]>>

/** An event bound by its name, or emitted only: its functions annotate their parameter. */
export type NamedEvent = EventOptions<never> & OneOrMore<NamedPublication>

/** The argument of `defineOutbox`, from which `T` learns the tables. */
export type EventTables<T> = {
  readonly [K in keyof T]: { readonly table?: T[K] } & (T[K] extends PgTable ? TableEvent<T[K]> : NamedEvent)
}

type Option = "table" | "publish" | keyof EventOptions<never> | keyof Publication<never>

/** Refuses options that do not exist: the argument's own inferred type would take them. */
export type KnownOptions<E> = {
  readonly [K in keyof E]: {
    readonly [O in Exclude<keyof E[K], Option>]: { readonly "~error": `there is no option "${O & string}"` }
  }
}

/** The table an event names, or undefined. */
export type TableOf<D> = D extends { readonly table: infer T extends PgTable } ? T : undefined

type PublicationsOf<D> = D extends { readonly publish: readonly (infer P)[] } ? P : D

/** The type in which consumers read an event's body: the union of its publications'. */
export type BodyOf<D> =
  PublicationsOf<D> extends infer P ? (P extends P ? PublicationBody<P, TableOf<D>> : never) : never

/** The value an event's functions take: its table's row, else what its serializers say. */
export type ValueOf<D> = D extends { readonly table: infer T extends PgTable }
  ? T["$inferSelect"]
  : [PublicationsOf<D>] extends [{ readonly serializer: (row: infer V, ...rest: never) => unknown }]
    ? V
    : never

/** What a consumer needs to know of an event. `Body` is the type of its bodies. */
export interface OutboxEvent<Name extends string = string, Body = unknown> {
  readonly name: Name
  readonly publications: readonly EventPublication[]
  /** The destinations known at definition, versions included. */
  readonly destinations: readonly string[]
  /** Only a type. */
  readonly "~body"?: (body: never) => Body
}

/** One publication as a consumer sees it. */
export interface EventPublication {
  /** Undefined when they are computed for each row. */
  readonly destinations: readonly string[] | undefined
  readonly version: string | undefined
  readonly contentType: string
  readonly schema: BodySchema | undefined
}

/** The type of an event's bodies. */
export type EventBody<E> = E extends { readonly "~body"?: (body: never) => infer Body } ? Body : never

type AnyEvent = EventOptions<unknown, string> & { readonly table?: PgTable } & (
    | Publication<unknown>
    | { readonly publish: readonly Publication<unknown>[] }
  )

/** An event ready to write. Times are in milliseconds. */
export interface CompiledEvent {
  readonly name: string
  readonly table: PgTable | undefined
  readonly operations: ReadonlySet<Operation>
  readonly options: EventOptions<unknown, string>
  /** Of the property that `key` names. */
  readonly keyColumn: NamedColumn | undefined
  readonly delay: number | null
  readonly timeToLive: number | null
  readonly publications: readonly CompiledPublication[]
}

const OPERATIONS: readonly Operation[] = ["insert", "update", "delete", "upsert", "emit"]
const EVENT_OPTIONS = [
  "table",
  "publish",
  "operations",
  "key",
  "headers",
  "when",
  "old",
  "availableAt",
  "delay",
  "timeToLive",
]

/** The first property that is no option. */
const strangeOption = (given: object, ...options: (readonly string[])[]): string | undefined =>
  Object.keys(given).find((option) => !options.flat().includes(option))

/** Checks an event; throws an `OutboxError` of reason `definition` that names it. */
export const compileEvent = (name: string, definition: unknown): CompiledEvent => {
  const wrong = (words: string) => refused(name, "definition", words)
  const nameFault = name === "" ? "is empty" : headerFault(name)
  if (nameFault !== undefined) throw wrong(`its name ${nameFault}`)
  if (typeof definition !== "object" || definition === null) throw wrong("its definition is no object")
  const unknown = strangeOption(definition, EVENT_OPTIONS, PUBLICATION_OPTIONS)
  if (unknown !== undefined) throw wrong(`there is no option ${JSON.stringify(unknown)}`)
  const event = definition as AnyEvent
  const { table, operations = OPERATIONS, key, headers, availableAt } = event
  if (table !== undefined && !is(table, PgTable)) throw wrong("`table` is no Drizzle table of PostgreSQL")
  if (operations.length === 0) throw wrong("`operations` is empty")
  const strange = operations.find((operation) => !OPERATIONS.includes(operation))
  if (strange !== undefined) throw wrong(`there is no operation ${JSON.stringify(strange)}`)
  const fault = typeof headers === "object" ? headersFault(headers) : undefined
  if (fault !== undefined) throw wrong(fault)
  if (table !== undefined && key === undefined && primaryKey(table).length === 0)
    throw wrong("its table has no primary key: give a `key` (null for no order)")
  const keyColumn =
    typeof key === "string" && table !== undefined
      ? namedColumns(table).find(({ property }) => property === key)
      : undefined
  if (typeof key === "string" && keyColumn === undefined)
    throw wrong(
      table === undefined
        ? "a `key` that names a property needs `table`"
        : `\`key\` names ${JSON.stringify(key)}, which is no property of its table`,
    )
  if (table !== undefined && event.old && primaryKey(table).length === 0)
    throw wrong("its table has no primary key, by which `old` pairs the rows")
  if (availableAt !== undefined && event.delay !== undefined)
    throw wrong("give `availableAt` or `delay`, not both")
  const publications =
    "publish" in event && event.publish !== undefined ? event.publish : [event as Publication<unknown>]
  if (publications.length === 0) throw wrong("`publish` is empty")
  if (event !== publications[0]) {
    const both = PUBLICATION_OPTIONS.find((option) => option in event)
    if (both !== undefined) throw wrong(`with \`publish\`, \`${both}\` belongs into its entries`)
    const strange = publications.flatMap((entry) => strangeOption(entry, PUBLICATION_OPTIONS) ?? [])
    if (strange.length > 0) throw wrong(`an entry of \`publish\` has no option ${JSON.stringify(strange[0])}`)
  }
  return {
    name,
    table,
    operations: new Set(operations),
    options: event,
    keyColumn,
    delay: millis(event.delay, () => wrong("`delay` is no finite duration")),
    timeToLive: millis(event.timeToLive, () => wrong("`timeToLive` is no finite duration")),
    publications: publications.map((publication) => compilePublication(name, table, publication)),
  }
}

/** A duration in milliseconds, null for none. */
export const millis = (input: Duration.Input | undefined, wrong: () => Error): number | null => {
  if (input === undefined) return null
  let duration: number
  try {
    duration = Duration.toMillis(Duration.fromInputUnsafe(input))
  } catch {
    throw wrong()
  }
  if (!Number.isFinite(duration) || duration < 0) throw wrong()
  return duration
}
