/** Transactions as Effect sees them: a service in `R`, rolled back on failure and interruption, announced after commit. */
import type { PgDatabase } from "drizzle-orm/pg-core"
import type * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { AnyTransaction } from "./append.ts"
import { OutboxError } from "./error.ts"
import { awaitCommit } from "./nudge.ts"

/** Any Drizzle database on PostgreSQL; a transaction is one too, and gives a savepoint. */
// biome-ignore lint/suspicious/noExplicitAny: only `any` accepts every driver and every schema.
export type AnyDatabase = PgDatabase<any, any, any>

/** The transaction that Effects run in. Only `transaction` provides it. */
export class Transaction extends Context.Service<Transaction, { readonly tx: AnyTransaction }>()(
  "drizzle-outbox/Transaction",
) {}

/**
 * Runs `body` in a transaction of `db` (or, given a `tx`, in a savepoint) and, once it has committed, nudges the relay
 * for what was written in it.
 *
 * **Details** An Effect finds the transaction as the service `Transaction`; its failure, its defect and its interruption
 * roll back, and the rollback is through before they are seen. A function gets `tx` and returns a Promise, as with
 * `db.transaction`.
 *
 * **Gotchas** An interruption while COMMIT is on its way cannot undo it.
 */
export const transaction: {
  <A, E, R>(
    db: AnyDatabase,
    body: Effect.Effect<A, E, R>,
  ): Effect.Effect<A, E | OutboxError, Exclude<R, Transaction>>
  <Db extends AnyDatabase, A>(
    db: Db,
    body: (tx: Parameters<Parameters<Db["transaction"]>[0]>[0]) => Promise<A>,
  ): Promise<A>
} = (
  db: AnyDatabase,
  body: Effect.Effect<unknown, unknown, unknown> | ((tx: never) => Promise<unknown>),
  // biome-ignore lint/suspicious/noExplicitAny: one implementation of both forms.
): any => (typeof body === "function" ? promised(db, body) : effected(db, body))

/**
 * A Drizzle query inside `transaction`: `query((tx) => tx.select().from(orders))`. It is not interrupted half-way: what
 * is on the connection ends before the rollback.
 */
export const query = <A>(
  run: (tx: AnyTransaction) => PromiseLike<A>,
): Effect.Effect<A, OutboxError, Transaction> =>
  Effect.flatMap(Transaction, ({ tx }) =>
    Effect.uninterruptible(Effect.tryPromise({ try: async () => await run(tx), catch: asOutboxError })),
  )

const promised = async <A>(db: AnyDatabase, body: (tx: never) => Promise<A>): Promise<A> => {
  let committed = () => {}
  const result = await db.transaction((tx: AnyTransaction) => {
    committed = awaitCommit(tx, db)
    return body(tx as never)
  })
  committed()
  return result
}

const effected = <A, E, R>(
  db: AnyDatabase,
  body: Effect.Effect<A, E, R>,
): Effect.Effect<A, E | OutboxError, Exclude<R, Transaction>> =>
  Effect.contextWith((context: Context.Context<Exclude<R, Transaction>>) =>
    Effect.callback<A, E | OutboxError>((resume, signal) => {
      const done = promised(db, async (tx: AnyTransaction) => {
        const inside = Effect.provideService(body, Transaction, { tx })
        const exit = await Effect.runPromiseExitWith(context)(inside, { signal })
        if (Exit.isSuccess(exit)) return exit.value
        throw new RolledBack(exit.cause)
      }).then(
        (value) => resume(Effect.succeed(value)),
        (error) =>
          resume(
            error instanceof RolledBack
              ? Effect.failCause(error.reason as Cause.Cause<E>)
              : Effect.fail(asOutboxError(error)),
          ),
      )
      return Effect.promise(() => done)
    }),
  )

/** Carries an Effect's cause through `db.transaction`, which rolls back on it. */
class RolledBack extends Error {
  readonly reason: Cause.Cause<unknown>
  constructor(reason: Cause.Cause<unknown>) {
    super("rolled back")
    this.reason = reason
  }
}

const asOutboxError = (cause: unknown): OutboxError =>
  cause instanceof OutboxError
    ? cause
    : new OutboxError({
        reason: "database",
        message: cause instanceof Error ? cause.message : String(cause),
        cause,
      })
