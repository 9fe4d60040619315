/** The one error of the write path. */
import * as Data from "effect/Data"

/**
 * Why a write was refused. The list is closed.
 * - `definition`: `defineOutbox` was given something that can never work; thrown at once, the event is named.
 * - `not-a-transaction`: the first argument is no Drizzle transaction (a `db`, say).
 * - `unbound`: no event is bound to the table, or no event has the name.
 * - `operation`: no event of the table lists the operation.
 * - `too-many-rows`: the call covers more rows than `maxRows`.
 * - `too-large`: a body is over `maxBodyBytes`.
 * - `unencodable`: a value has no JSON form, or a text no UTF-8 form.
 * - `schema`: the event's schema does not accept the body.
 * - `destination`, `key`, `headers`, `time`: what was computed for the message cannot be used.
 * - `callback`: a function of the definition threw; its error is the `cause`.
 * - `old`: the row before the write cannot be paired with the row after it.
 * - `not-written`: the database took the statement and kept no row (a trigger swallowed it).
 * - `database`: a statement failed; the driver's error is the `cause` (Effect forms only: a Promise rejects with it as it is).
 */
export type OutboxErrorReason =
  | "definition"
  | "not-a-transaction"
  | "unbound"
  | "operation"
  | "too-many-rows"
  | "too-large"
  | "unencodable"
  | "schema"
  | "destination"
  | "key"
  | "headers"
  | "time"
  | "callback"
  | "old"
  | "not-written"
  | "database"

/**
 * A refused write. Every reason but `definition`, `not-a-transaction` and `database` leaves a transaction that can only
 * roll back: catching the error cannot commit a row without its message.
 */
export class OutboxError extends Data.TaggedError("OutboxError")<{
  readonly reason: OutboxErrorReason
  readonly message: string
  /** The event concerned, where it is known. */
  readonly event?: string
  readonly cause?: unknown
}> {
  /** Whether the whole transaction may succeed when run again unchanged: a serialization failure or a deadlock. */
  get isRetryable(): boolean {
    for (let cause = this.cause; cause instanceof Error; cause = cause.cause) {
      const code = (cause as { readonly code?: unknown }).code
      if (code === "40001" || code === "40P01") return true
    }
    return false
  }
}

/** An `OutboxError` whose message begins with the event's name. */
export const refused = (
  event: string,
  reason: OutboxErrorReason,
  words: string,
  cause?: unknown,
): OutboxError =>
  new OutboxError({
    reason,
    message: `event ${JSON.stringify(event)}: ${words}`,
    event,
    ...(cause === undefined ? {} : { cause }),
  })
