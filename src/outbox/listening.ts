/** Which events a write makes messages of. */
import type { PgTable } from "drizzle-orm/pg-core"
import { OutboxError } from "./error.ts"
import type { CompiledEvent } from "./event.ts"
import { type Inline, inline } from "./inline.ts"
import type { Operation } from "./publication.ts"

/** The events that record one operation on one table. */
export interface Listening {
  readonly events: readonly CompiledEvent[]
  /** For inserts whose messages SQL can make. */
  readonly inline: Inline | undefined
}

/** Finds the events that record an operation on a table: bound to it, or named as it. Throws an `OutboxError`. */
export const makeListening = (outbox: {
  readonly events: readonly CompiledEvent[]
  readonly schema: string
  readonly maxBodyBytes: number
}): ((table: PgTable, operation: Operation) => Listening) => {
  const known = new WeakMap<PgTable, Map<Operation, Listening>>()
  return (table, operation) => {
    const operations = known.get(table) ?? new Map<Operation, Listening>()
    let listening = operations.get(operation)
    if (listening === undefined) {
      const events = eventsOf(outbox.events, table, operation)
      listening = {
        events,
        inline: operation === "insert" ? inline(outbox, table, operation, events) : undefined,
      }
      known.set(table, operations.set(operation, listening))
    }
    return listening
  }
}

const eventsOf = (
  all: readonly CompiledEvent[],
  table: PgTable,
  operation: Operation,
): readonly CompiledEvent[] => {
  const name = givenName(table)
  const bound = all.filter((event) =>
    event.table === undefined ? event.name === name : event.table === table,
  )
  if (bound.length === 0)
    throw new OutboxError({
      reason: "unbound",
      message: `no event is bound to the table ${JSON.stringify(name)}`,
    })
  const listening = bound.filter((event) => event.operations.has(operation))
  if (listening.length === 0)
    throw new OutboxError({
      reason: "operation",
      message: `no event of the table ${JSON.stringify(name)} lists the operation "${operation}"`,
    })
  return listening
}

/** The name given to `pgTable`, before a creator's prefix and without a schema. */
const givenName = (table: PgTable): string =>
  (table as unknown as Readonly<Record<symbol, string>>)[Symbol.for("drizzle:BaseName")] ?? ""
