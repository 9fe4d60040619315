/** What ends a program: one sentence on standard error, and its exit code. */
import { Schema } from "effect"

/** Ends the program with code 1 and this sentence. */
export class CliError extends Schema.TaggedError<CliError>()("CliError", { message: Schema.String }) {}
