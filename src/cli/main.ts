/** A program's life: signals, the last sentence, the exit code. */
import { constants } from "node:os"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import type { Command, Failure } from "./command.ts"
import { withoutSecrets } from "./secret.ts"
import { hideArguments } from "./title.ts"

/**
 * Runs a command as this process and ends it: 0 when it succeeded, 1 with one sentence on standard error when it failed.
 *
 * **Details**  The first SIGTERM or SIGINT interrupts it and waits for its end: 0 for a service, else 128 + the signal. The
 * second ends the process at once.
 */
export const runMain = (command: Command, argv: ReadonlyArray<string>): void => {
  hideArguments(command.name, argv)
  // Whoever reads our output may go away early, as `head` does.
  for (const stream of [process.stdout, process.stderr])
    stream.on("error", (error: NodeJS.ErrnoException) => process.exit(error.code === "EPIPE" ? 0 : 1))

  const fiber = Effect.runFork(command.start(argv, process.env))
  let stoppedBy: number | undefined
  for (const signal of ["SIGTERM", "SIGINT"] as const)
    process.on(signal, () => {
      const code = 128 + constants.signals[signal]
      if (stoppedBy !== undefined) process.exit(code)
      stoppedBy = code
      Effect.runFork(Fiber.interrupt(fiber))
    })
  fiber.addObserver((exit) => {
    process.exit(codeOf(exit, command, stoppedBy))
  })
}

const codeOf = (exit: Exit.Exit<void, Failure>, command: Command, stoppedBy: number | undefined): number => {
  if (Exit.isSuccess(exit)) return 0
  if (stoppedBy !== undefined && Cause.hasInterruptsOnly(exit.cause)) return command.service ? 0 : stoppedBy
  process.stderr.write(`${withoutSecrets(sentenceOf(command, exit.cause))}\n`)
  return 1
}

/** A failure has said everything in its message; a defect needs its stack. */
const sentenceOf = (command: Command, cause: Cause.Cause<Failure>): string => {
  const failure = cause.reasons.find(Cause.isFailReason)
  const said = failure === undefined ? Cause.pretty(cause) : failure.error.message
  return `drizzle-outbox${command.name === "" ? "" : ` ${command.name}`}: ${said}`
}
