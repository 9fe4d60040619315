/** Running the user's function, and what its end means. */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { AnyTransaction } from "../outbox/append.ts"
import { Transaction } from "../outbox/transaction.ts"
import { wordsOf } from "./decode.ts"
import { Reject, Snooze } from "./outcome.ts"

/** How a handler ended that did not succeed. */
export type Failure =
  | { readonly _tag: "Failed"; readonly words: string; readonly stack?: string }
  | { readonly _tag: "Rejected"; readonly words: string }
  | { readonly _tag: "Snoozed"; readonly millis: number }

/** Reads what a handler threw, rejected with or failed with. */
export const failureOf = (thrown: unknown): Failure => {
  if (thrown instanceof Reject) {
    const reason: unknown = thrown.reason
    return { _tag: "Rejected", words: reason === undefined ? "rejected without a reason" : wordsOf(reason) }
  }
  if (thrown instanceof Snooze) {
    const duration = Duration.fromInput(thrown.duration)
    return duration._tag === "Some"
      ? { _tag: "Snoozed", millis: clamped(Duration.toMillis(duration.value)) }
      : { _tag: "Failed", words: "Snooze was given no duration" }
  }
  const stack = framesOf(thrown)
  return { _tag: "Failed", words: deepWordsOf(thrown), ...(stack !== undefined && { stack }) }
}

/** Within what a time in the database can be. */
const clamped = (millis: number): number => Math.min(Math.max(0, millis), LONGEST_SNOOZE)

const LONGEST_SNOOZE = Duration.toMillis("3650 days")

/**
 * An error and what caused it. Drizzle's error around a driver's says where, and with which values, which are nobody's
 * business in a log: of it the statement is left, after what happened.
 */
const deepWordsOf = (thrown: unknown, depth = 0): string => {
  const statement = statementOf(thrown)
  const cause = thrown instanceof Error && depth < 4 ? thrown.cause : undefined
  if (cause === undefined || cause === null)
    return statement === undefined ? wordsOf(thrown) : `a query failed (${statement})`
  const inner = deepWordsOf(cause, depth + 1)
  // An error that says the same as its cause says it once.
  if (wordsOf(cause) === wordsOf(thrown)) return inner
  return statement === undefined ? `${wordsOf(thrown)}: ${inner}` : `${inner} (${statement})`
}

const statementOf = (thrown: unknown): string | undefined => {
  if (!(thrown instanceof Error && "query" in thrown && "params" in thrown)) return undefined
  if (typeof thrown.query !== "string" || !thrown.message.startsWith("Failed query: ")) return undefined
  const statement = thrown.query.replace(/\s+/g, " ").trim()
  return statement.length > 200 ? `${statement.slice(0, 200)}…` : statement
}

/** Where it was thrown, without its message, which may quote values. */
const framesOf = (thrown: unknown): string | undefined => {
  const frames =
    thrown instanceof Error ? thrown.stack?.split("\n").filter((line) => /^\s+at /.test(line)) : undefined
  return frames === undefined || frames.length === 0 ? undefined : frames.slice(0, MOST_FRAMES).join("\n")
}

const MOST_FRAMES = 12

/** The end of a handler's time, told to those who ask for the signal: most never do, and it costs more than a message's own work. */
export class Ending {
  #controller: AbortController | undefined
  #over = false

  get signal(): AbortSignal {
    this.#controller ??= new AbortController()
    if (this.#over) this.#controller.abort()
    return this.#controller.signal
  }

  abort(): void {
    this.#over = true
    this.#controller?.abort()
  }
}

/** A handler was over its time. */
export class HandlerTimeout extends Error {
  override readonly name = "HandlerTimeout"
}

/**
 * Calls a handler and resolves with what it resolved with, or rejects: with what it threw or failed with, or with
 * `HandlerTimeout` after `timeoutMillis`, however long it goes on. The signal is aborted unless it succeeded.
 * An Effect finds `tx` as `Transaction`, too.
 */
export const callHandler = <R>(
  call: (ending: Ending) => unknown,
  options: {
    readonly context: Context.Context<R>
    readonly tx: AnyTransaction | undefined
    readonly timeoutMillis: number
    readonly ending: Ending
  },
): Promise<unknown> => {
  const { ending, timeoutMillis, tx } = options
  const run = async () => {
    const result = call(ending)
    if (!Effect.isEffect(result)) return await (result as PromiseLike<unknown>)
    const context = (
      tx === undefined ? options.context : Context.add(options.context, Transaction, { tx })
    ) as Context.Context<unknown>
    const exit = await Effect.runPromiseExitWith(context)(
      result as Effect.Effect<unknown, unknown, unknown>,
      {
        signal: ending.signal,
      },
    )
    if (Exit.isSuccess(exit)) return exit.value
    throw Cause.squash(exit.cause)
  }
  return new Promise((resolve, reject) => {
    const fail = (error: unknown) => {
      clearTimeout(timer)
      ending.abort()
      reject(error)
    }
    const timer = setTimeout(() => {
      const limit = Duration.format(Duration.millis(timeoutMillis))
      fail(new HandlerTimeout(`the handler took longer than ${limit}`))
    }, timeoutMillis)
    run().then((value) => {
      clearTimeout(timer)
      resolve(value)
    }, fail)
  })
}
