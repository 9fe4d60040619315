/** What ends a program: one sentence on standard error, and its exit code. */
import * as Data from "effect/Data"

/** Ends the program with code 1 and this sentence. */
export class CliError extends Data.TaggedError("CliError")<{ readonly message: string }> {}
