/** The types of the operations: one set for the Promise and the Effect form, and the sentences a misuse is answered with. */
import type { SQL } from "drizzle-orm"
import type { PgInsertValue, PgTable, PgUpdateSetSource } from "drizzle-orm/pg-core"
import type * as Effect from "effect/Effect"
import type { AnyTransaction } from "./append.ts"
import type { OutboxError } from "./error.ts"
import type { ValueOf } from "./event.ts"
import type { WriteOptions } from "./headers.ts"
import type { Operation } from "./publication.ts"
import type { UpsertConfig } from "./rows.ts"
import type { Transaction } from "./transaction.ts"

/** `promise`: the transaction is the first argument. `effect`: it is the service `Transaction`. */
export type Form = "promise" | "effect"

type Leading<F extends Form> = F extends "promise" ? [tx: AnyTransaction] : []
type Outcome<F extends Form, A> = F extends "promise"
  ? Promise<A>
  : Effect.Effect<A, OutboxError, Transaction>

/** A type error in words. */
export interface OutboxTypeError<Sentence extends string> {
  readonly "~error": Sentence
}

type NameOf<T extends PgTable> = T["_"]["name"]
type SameTable<A, B extends PgTable> = A extends PgTable
  ? [A["_"]["name"], A["_"]["schema"]] extends [B["_"]["name"], B["_"]["schema"]]
    ? true
    : false
  : false

/** The names of the events bound to a table: by `table`, or by their name. */
type EventsOf<E, T extends PgTable> = {
  [K in keyof E]: E[K] extends { readonly table: infer B }
    ? SameTable<B, T> extends true
      ? K
      : never
    : K extends NameOf<T>
      ? K
      : never
}[keyof E]

type Lists<D, O extends Operation> = D extends { readonly operations: readonly (infer L)[] }
  ? O extends L
    ? true
    : false
  : true

type Listing<E, K extends keyof E, O extends Operation> = {
  [P in K]: Lists<E[P], O> extends true ? P : never
}[K]

type Misfit<E, K extends keyof E, T extends PgTable> = {
  [P in K]: T["$inferSelect"] extends ValueOf<E[P]> ? never : P
}[K]

/** The table, if operation `O` on it makes a message; else a sentence. */
export type Bound<E, T extends PgTable, O extends Operation> = [EventsOf<E, T>] extends [never]
  ? OutboxTypeError<`no event is bound to the table "${NameOf<T>}": give defineOutbox one with \`table\` or of this name`>
  : [Listing<E, EventsOf<E, T>, O>] extends [never]
    ? OutboxTypeError<`no event of the table "${NameOf<T>}" lists the operation "${O}"`>
    : [Misfit<E, Listing<E, EventsOf<E, T>, O>, T>] extends [never]
      ? T
      : OutboxTypeError<`the serializer of event "${Misfit<E, Listing<E, EventsOf<E, T>, O>, T> & string}" does not take a row of the table "${NameOf<T>}"`>

/**
 * Writes rows and, in the same transaction, their messages. Each call is one statement on the table and one more for
 * all its messages (with `old: true` one more that locks and reads); an insert none of whose messages needs a function, a
 * schema or a column type that only JavaScript can write is one statement in all. What is returned is what Drizzle's
 * `returning()` gives.
 *
 * **Gotchas** Whatever goes wrong, the transaction can only roll back afterwards, even when the error is caught; inside
 * a savepoint (`tx.transaction`) only the savepoint is lost. Await every call before the transaction's function returns.
 */
export interface WithOutbox<E, F extends Form> {
  /** Inserts rows; messages are in input order. `[]` is `[]` without a statement. */
  <T extends PgTable>(
    ...args: [
      ...Leading<F>,
      table: Bound<E, T, "insert">,
      rows: readonly PgInsertValue<T>[],
      options?: WriteOptions,
    ]
  ): Outcome<F, T["$inferSelect"][]>
  /** Inserts a row. */
  <T extends PgTable>(
    ...args: [...Leading<F>, table: Bound<E, T, "insert">, row: PgInsertValue<T>, options?: WriteOptions]
  ): Outcome<F, T["$inferSelect"]>
  /** Updates rows and returns them; both they and the messages are in primary-key order. */
  readonly update: <T extends PgTable>(
    ...args: [
      ...Leading<F>,
      table: Bound<E, T, "update">,
      set: PgUpdateSetSource<T>,
      where: SQL | undefined,
      options?: WriteOptions,
    ]
  ) => Outcome<F, T["$inferSelect"][]>
  /** Deletes rows and returns them as they were; both they and the messages are in primary-key order. */
  readonly delete: <T extends PgTable>(
    ...args: [...Leading<F>, table: Bound<E, T, "delete">, where: SQL | undefined, options?: WriteOptions]
  ) => Outcome<F, T["$inferSelect"][]>
  readonly upsert: Upsert<E, F>
}

/**
 * Inserts rows or updates those that exist; only what was written makes a message and is returned, in primary-key
 * order. The messages' operation is `upsert` in both cases.
 */
export interface Upsert<E, F extends Form> {
  <T extends PgTable>(
    ...args: [
      ...Leading<F>,
      table: Bound<E, T, "upsert">,
      rows: readonly PgInsertValue<T>[],
      config: UpsertConfig<T>,
      options?: WriteOptions,
    ]
  ): Outcome<F, T["$inferSelect"][]>
  /** Undefined when `setWhere` left the row as it was. */
  <T extends PgTable>(
    ...args: [
      ...Leading<F>,
      table: Bound<E, T, "upsert">,
      row: PgInsertValue<T>,
      config: UpsertConfig<T>,
      options?: WriteOptions,
    ]
  ): Outcome<F, T["$inferSelect"] | undefined>
}

/** The event's name, if it lists `emit`; else a sentence. */
export type Emittable<E, K extends keyof E> =
  Lists<E[K], "emit"> extends true
    ? K
    : OutboxTypeError<`the event "${K & string}" does not list the operation "emit"`>

/** Writes messages of an event without touching a table, from the value that its functions take. */
export type Emit<E, F extends Form> = <K extends keyof E & string>(
  ...args: [...Leading<F>, event: Emittable<E, K>, value: ValueOf<E[K]>, options?: WriteOptions]
) => Outcome<F, void>
