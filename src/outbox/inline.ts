/** Messages that the very statement of the user's insert writes, where SQL can make all of them. */
import type { Query } from "drizzle-orm"
import type { PgTable } from "drizzle-orm/pg-core"
import { dueOf, headersOf, timeToLiveOf } from "./drafts.ts"
import type { CompiledEvent } from "./event.ts"
import type { WriteOptions } from "./headers.ts"
import { type Part, partsOf } from "./inline-parts.ts"
import { type InlineSettings, inlineStatement } from "./inline-statement.ts"
import type { InsertQuery } from "./insert.ts"
import type { Operation } from "./publication.ts"

/** Writes an insert's statement anew, so that it writes the messages of its rows too. Throws an `OutboxError`. */
export type Inline = (insert: InsertQuery, options: WriteOptions) => Query

/** Undefined when a function of the user or a type without a proved SQL form has a part in one of the messages. */
export const inline = (
  settings: InlineSettings,
  table: PgTable,
  operation: Operation,
  events: readonly CompiledEvent[],
): Inline | undefined => {
  // Other operations order what they have written in JavaScript, or read what was there before.
  if (operation !== "insert") return undefined
  const parts: Part[] = []
  for (const event of events) {
    const made = partsOf(event, settings.schema, table)
    if (made === undefined) return undefined
    parts.push(...made)
  }
  // An insert leaves room for some thousand parameters.
  if (parts.length > 500) return undefined
  const texts = new Map<string, string>()
  return (insert, options) => {
    const timed = parts.some(
      ({ event }) => dueOf(event, undefined, NONE, options) !== null || timeToLiveOf(event, options) !== null,
    )
    const params = parts.flatMap(({ event, destination, version, contentType }) => {
      const headers = headersOf(event, undefined, NONE, options)
      const fixed = [event.name, destination, version ?? null, headers, contentType]
      return timed ? [...fixed, ...times(event, options)] : fixed
    })
    const known = `${timed} ${insert.sql}`
    const text = texts.get(known) ?? inlineStatement(settings, table, insert, parts, timed)
    if (insert.kept) texts.set(known, text)
    return {
      ...insert,
      sql: text,
      params: [...insert.params, ...params],
      ...(insert.typings && { typings: [...insert.typings, ...params.map(() => "none" as const)] }),
    }
  }
}

/** For functions that are not there. */
const NONE = { operation: "insert", old: undefined } as const

/** The parameters of a moment or a delay, and of a life. */
const times = (event: CompiledEvent, options: WriteOptions): readonly (string | null)[] => {
  const due = dueOf(event, undefined, NONE, options)
  const life = timeToLiveOf(event, options)
  return [
    due instanceof Date ? due.toISOString() : null,
    typeof due === "number" ? String(due) : null,
    life === null ? null : String(life),
  ]
}
