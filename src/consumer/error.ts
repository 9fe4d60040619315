import * as Data from "effect/Data"

/**
 * A consumer cannot be what its definition says; thrown at once, in one sentence.
 *
 * `consumer`: it has no usable name; `source`: it is not clear what it reads; `option`: an option cannot have its value.
 */
export class ConsumerError extends Data.TaggedError("ConsumerError")<{
  readonly reason: "consumer" | "source" | "option"
  readonly message: string
}> {}
