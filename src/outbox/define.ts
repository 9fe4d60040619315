/** `defineOutbox`: from a record of events to typed operations. */
import { quoteSchema } from "../store/schema-name.ts"
import type { AnyTransaction } from "./append.ts"
import { OutboxError } from "./error.ts"
import {
  type BodyOf,
  type CompiledEvent,
  compileEvent,
  type EventTables,
  type KnownOptions,
  type OutboxEvent,
} from "./event.ts"
import { coalesced, type Nudge } from "./nudge.ts"
import { query } from "./transaction.ts"
import type { Emit, Form, WithOutbox } from "./with-outbox.ts"
import { operations } from "./write.ts"

/** Settings of one outbox. */
export interface OutboxOptions {
  /** Called (once a turn of the event loop) after a write, or after the commit of a `transaction`. Default: none. */
  readonly nudge?: Nudge
  /** The PostgreSQL schema that `migrate` was given. Default "outbox". */
  readonly schema?: string
  /** The largest body, in bytes of UTF-8. Default 1 MiB: far below what brokers take, far above what a message should be. */
  readonly maxBodyBytes?: number
  /** The most rows of one call. Default 10,000: all their bodies are in memory at once. */
  readonly maxRows?: number
}

/** The operations in one form. */
export interface Operations<E, F extends Form> {
  readonly withOutbox: WithOutbox<E, F>
  readonly emit: Emit<E, F>
}

/** What `defineOutbox` gives: the operations as Promises, the same as Effects, and the events for consumers. */
export interface DefinedOutbox<E> extends Operations<E, "promise"> {
  /** The same operations without `tx`, which is the service `Transaction`: they run inside `transaction` only. */
  readonly effect: Operations<E, "effect">
  /** Each event with its name, destinations, schema and the type of its bodies. */
  readonly events: { readonly [K in keyof E & string]: OutboxEvent<K, BodyOf<E[K]>> }
}

/**
 * Defines the events of an application and returns the operations that write them. Nothing runs, nothing connects.
 *
 * **Details** A key is an event's name. With `table` the compiler infers rows, fields, key and body; without it the
 * event is bound to the table of that name (as given to `pgTable`, before a creator's prefix and without schema) and its
 * functions annotate their parameter.
 *
 * Throws an `OutboxError` of reason `definition` that names the event.
 */
export const defineOutbox = <T, const E>(
  events: EventTables<T> & E & KnownOptions<NoInfer<E>>,
  options: OutboxOptions = {},
): DefinedOutbox<E> => {
  const { schema = "outbox", maxBodyBytes = 1_048_576, maxRows = 10_000, nudge } = options
  quoteSchema(schema)
  positive("maxBodyBytes", maxBodyBytes)
  positive("maxRows", maxRows)
  const compiled = Object.entries(events as object).map(([name, definition]) =>
    compileEvent(name, definition),
  )
  const { withOutbox, emit } = operations({
    events: compiled,
    schema,
    maxBodyBytes,
    maxRows,
    nudge: nudge && coalesced(nudge),
  })
  const effect = {
    withOutbox: Object.assign(asEffect(withOutbox), {
      update: asEffect(withOutbox.update),
      delete: asEffect(withOutbox.delete),
      upsert: asEffect(withOutbox.upsert),
    }),
    emit: asEffect(emit),
  }
  // The operations are written for any table; their types say which calls reach them.
  return { withOutbox, emit, effect, events: described(compiled) } as unknown as DefinedOutbox<E>
}

/** The Effect form of an operation. */
const asEffect =
  <Args extends readonly unknown[], A>(operation: (tx: AnyTransaction, ...args: Args) => Promise<A>) =>
  (...args: Args) =>
    query((tx) => operation(tx, ...args))

const described = (events: readonly CompiledEvent[]): Readonly<Record<string, OutboxEvent>> =>
  Object.fromEntries(
    events.map(({ name, publications }) => [
      name,
      {
        name,
        publications: publications.map(({ destinations, version, contentType, schema }) => ({
          destinations,
          version,
          contentType,
          schema,
        })),
        destinations: publications.flatMap(({ destinations }) => destinations ?? []),
      },
    ]),
  )

const positive = (option: string, value: number): void => {
  if (!Number.isInteger(value) || value < 1)
    throw new OutboxError({ reason: "definition", message: `\`${option}\` is no positive whole number` })
}
