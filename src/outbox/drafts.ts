/** From rows and events to messages. */
import type { PgTable } from "drizzle-orm/pg-core"
import type { Draft } from "./append.ts"
import { encodingError } from "./body.ts"
import { refused } from "./error.ts"
import { type CompiledEvent, millis } from "./event.ts"
import { headerFault, storedHeaders, type WriteOptions } from "./headers.ts"
import { keyOfColumns, type NamedColumn, primaryKey } from "./key.ts"
import type { Operation, WriteContext } from "./publication.ts"

/** A row as its functions see it. */
export interface Written {
  readonly row: unknown
  readonly old?: unknown
}

/** What a call writes: rows of one operation, for the events that listen to it. */
export interface Writing {
  readonly events: readonly CompiledEvent[]
  readonly operation: Operation
  /** Whose primary key is the default key. */
  readonly table: PgTable | undefined
  readonly rows: readonly Written[]
  readonly options: WriteOptions
  readonly maxBodyBytes: number
}

/** The messages of a call in their order: row by row, events and publications as defined. Rejects with an `OutboxError`. */
export const makeDrafts = async (writing: Writing): Promise<Draft[]> => {
  const drafts: Draft[] = []
  const keyColumns = writing.table === undefined ? [] : primaryKey(writing.table)
  const fixed: ReturnType<typeof fixedOf>[] = []
  let group = 0
  for (const { row, old } of writing.rows) {
    for (const [index, event] of writing.events.entries()) {
      const { options } = event
      const context: WriteContext<unknown> = {
        operation: writing.operation,
        old: options.old ? old : undefined,
      }
      if (options.when !== undefined && !guarded(event, () => options.when?.(row, context))) continue
      fixed[index] ??= fixedOf(event, row, context, writing.options)
      const { headers, due, timeToLive } = fixed[index]
      const its = group++
      const key = keyOf(event, keyColumns, row, context)
      const ownHeaders = headers ?? headersOf(event, row, context, writing.options)
      const ownDue = due === undefined ? dueOf(event, row, context, writing.options) : due
      for (const publication of event.publications) {
        const destinations =
          publication.destinations ?? guarded(event, () => publication.resolve(row, context))
        if (destinations.length === 0) continue
        const encoded = publication.encode(row, context)
        const body = encoded instanceof Promise ? await encoded.catch(rethrown(event)) : encoded
        const size = typeof body === "string" ? Buffer.byteLength(body) : body.byteLength
        if (size > writing.maxBodyBytes)
          throw refused(
            event.name,
            "too-large",
            `the body has ${size} bytes, over the limit of ${writing.maxBodyBytes}`,
          )
        const { contentType, version = null } = publication
        for (const destination of destinations)
          drafts.push({
            group: its,
            event: event.name,
            operation: writing.operation,
            destination,
            version,
            key,
            headers: ownHeaders,
            contentType,
            body,
            due: ownDue,
            timeToLive,
          })
      }
    }
  }
  return drafts
}

/** What is the same for all rows of a call, made with the first; undefined where a function makes it for each. */
const fixedOf = (
  event: CompiledEvent,
  row: unknown,
  context: WriteContext<unknown>,
  options: WriteOptions,
) => ({
  headers: typeof event.options.headers === "function" ? undefined : headersOf(event, row, context, options),
  due: event.options.availableAt === undefined ? dueOf(event, row, context, options) : undefined,
  timeToLive: timeToLiveOf(event, options),
})

const rethrown =
  (event: CompiledEvent) =>
  (cause: unknown): never => {
    throw encodingError(event.name, cause)
  }

/** Runs one of the user's functions; what it throws becomes an `OutboxError`. */
const guarded = <A>(event: CompiledEvent, run: () => A): A => {
  try {
    return run()
  } catch (cause) {
    throw encodingError(event.name, cause)
  }
}

const keyOf = (
  event: CompiledEvent,
  columns: readonly NamedColumn[],
  row: unknown,
  context: WriteContext<unknown>,
): string | null => {
  const { key } = event.options
  const wrong = (words: string) => refused(event.name, "key", words)
  if (key === null) return null
  if (key === undefined && columns.length === 0) {
    if (context.operation === "emit") return null
    throw wrong("the table has no primary key: give the event a `key` (null for no order)")
  }
  const value = guarded(event, () => {
    if (typeof key === "function") return key(row, context)
    const values = row as Readonly<Record<string, unknown>>
    const { keyColumn } = event
    if (keyColumn === undefined) return keyOfColumns(columns, values)
    const value = values[keyColumn.property]
    return value === null || value === undefined ? value : keyOfColumns([keyColumn], values)
  })
  if (value === null) return null
  if (typeof value !== "string" && typeof value !== "bigint" && !Number.isFinite(value))
    throw wrong("the key is neither a text, a number nor null")
  const text = String(value)
  const fault = headerFault(text)
  if (fault !== undefined) throw wrong(`the key ${JSON.stringify(text)} ${fault}`)
  return text
}

/** The headers of a row's message as JSON. */
export const headersOf = (
  event: CompiledEvent,
  row: unknown,
  context: WriteContext<unknown>,
  options: WriteOptions,
): string => {
  const { headers } = event.options
  const own = typeof headers === "function" ? guarded(event, () => headers(row, context)) : headers
  const stored = storedHeaders(own, options)
  if (typeof stored === "string") throw refused(event.name, "headers", stored)
  return JSON.stringify(stored)
}

/** When a row's message is due: a moment, milliseconds from the write, or null for at once. */
export const dueOf = (
  event: CompiledEvent,
  row: unknown,
  context: WriteContext<unknown>,
  options: WriteOptions,
): Date | number | null => {
  const wrong = (words: string) => refused(event.name, "time", words)
  if (options.availableAt !== undefined && options.delay !== undefined)
    throw wrong("give `availableAt` or `delay`, not both")
  const delay = millis(options.delay, () => wrong("`delay` is no finite duration"))
  if (delay !== null) return delay
  const { availableAt } = event.options
  const due =
    options.availableAt ??
    (availableAt === undefined ? null : guarded(event, () => availableAt(row, context)))
  if (due === null) return event.delay
  if (!(due instanceof Date) || Number.isNaN(due.getTime())) throw wrong("`availableAt` is no date")
  return due
}

/** How long a message is worth sending, in milliseconds from the moment it is due; null for ever. */
export const timeToLiveOf = (event: CompiledEvent, options: WriteOptions): number | null =>
  millis(options.timeToLive, () => refused(event.name, "time", "`timeToLive` is no finite duration")) ??
  event.timeToLive
