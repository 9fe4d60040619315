import * as Schema from "effect/Schema"

/**
 * A consumer cannot be what its definition says; thrown at once, in one sentence.
 *
 * `consumer`: it has no usable name; `source`: it is not clear what it reads; `option`: an option cannot have its value.
 */
export class ConsumerError extends Schema.TaggedError<ConsumerError>()("ConsumerError", {
  reason: Schema.Literals(["consumer", "source", "option"]),
  message: Schema.String,
}) {}
