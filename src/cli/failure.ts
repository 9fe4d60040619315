/** What ends a program: one sentence on standard error, and its exit code. */
import * as Schema from "effect/Schema"

/** Ends the program with code 1 and this sentence. */
export class CliError extends Schema.TaggedError<CliError>()("CliError", { message: Schema.String }) {}
