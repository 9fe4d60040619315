/** The transactions of an inbox: one after another on a connection, each begun in the same write as the commit before it. */
import * as Effect from "effect/Effect"
import type { AnyTransaction } from "../outbox/append.ts"
import type { AnyDatabase } from "../outbox/transaction.ts"
import { isDisconnection, type StoreError } from "../store/error.ts"
import { type Attempt, makeAttempt, NEVER } from "./attempt.ts"
import type { RolledBack, TransactOptions } from "./inbox.ts"
import { beginWith, type Opening } from "./opening.ts"
import type { Preparing } from "./preparing.ts"

/** See `Inbox.transact`. The body gets the rows of `opening`, its first statement. */
export type Transact = <A>(
  body: (tx: AnyTransaction, rows: ReadonlyArray<unknown>) => Promise<A>,
  options: TransactOptions,
  opening?: Pick<Opening, "text" | "prepared">,
) => Effect.Effect<A, StoreError | RolledBack>

/** A connection is given back to its pool after so many milliseconds, for others that wait for one. */
const LONGEST = 50

export const makeTransact = (db: AnyDatabase, preparing: Preparing): Transact => {
  /** While the work of a transaction is told to be done: what begins meanwhile may follow it. */
  let offer: { taken: Attempt | undefined } | undefined

  /** Tells that the work is done, and gives what began with it, if that can follow. */
  const successorOf = (attempt: Attempt, canFollow: boolean): Attempt | undefined => {
    const made = { taken: undefined as Attempt | undefined }
    if (canFollow) offer = made
    try {
      attempt.onCommit()
    } finally {
      offer = undefined
    }
    return made.taken
  }

  /** Runs an attempt in a transaction, and on the same connection those that follow it. */
  const host = (first: Attempt): void => {
    let current = first
    /** Its commit is under way. */
    let ending: Attempt | undefined
    const run = async (raw: AnyTransaction): Promise<void> => {
      const since = performance.now()
      for (;;) {
        const clean = await current.work(raw)
        const follow = clean && performance.now() - since < LONGEST ? current.opening?.follow : undefined
        const next = successorOf(current, follow !== undefined)
        if (follow === undefined || next?.opening === undefined) return
        const before = current
        ending = before
        current = next
        const { committed, opened } = follow(next.opening)
        try {
          await committed
          before.committed()
        } catch (error) {
          before.failed(error)
          if (isDisconnection(error)) return NEVER
        }
        ending = undefined
        try {
          await opened
        } catch (error) {
          if (isDisconnection(error)) return NEVER
          throw error
        }
      }
    }
    const begin = () => db.transaction(run)
    const transaction = first.opening === undefined ? begin() : beginWith(db, first.opening, begin)
    transaction.then(
      () => current.committed(),
      (error: unknown) => {
        ending?.failed(error)
        current.failed(error)
      },
    )
  }

  return (body, options, opening) =>
    Effect.callback((resume) => {
      const attempt = makeAttempt(db, body, options, preparing, opening)
      attempt.done.then(resume)
      if (offer !== undefined && offer.taken === undefined && opening?.prepared !== undefined)
        offer.taken = attempt
      else host(attempt)
      return Effect.promise(attempt.stop)
    })
}
