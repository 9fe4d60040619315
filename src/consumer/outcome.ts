/** What a handler may say besides success and failure. */
import * as Data from "effect/Data"
import type * as Duration from "effect/Duration"

/** Fail (or throw, or reject) with this: the message is dead at once, with the reason as its last error. */
export class Reject extends Data.TaggedError("Reject")<{ readonly reason: string }> {
  override get message(): string {
    return this.reason
  }
}

/** Fail (or throw, or reject) with this: the message is tried again after `duration`, and the try is not counted. */
export class Snooze extends Data.TaggedError("Snooze")<{ readonly duration: Duration.Input }> {}
