/** Consumers for programs without Effect. */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import type { Broker, BrokerError } from "../broker/broker.ts"
import type { Inbox } from "../inbox/inbox.ts"
import { layerPostgres } from "../inbox/postgres.ts"
import type { AnyDatabase } from "../outbox/transaction.ts"
import { type Consumer, definitionOf } from "./consume.ts"
import { wordsOf } from "./decode.ts"
import { OnSubscribed } from "./subscription.ts"

export interface StartOptions {
  /** The Drizzle database that holds the inbox, whose transactions handlers get. */
  readonly db: AnyDatabase
  /** `layerStomp({ url })`, say. */
  readonly broker: Layer.Layer<Broker, BrokerError>
  /** PostgreSQL schema of the outbox's and inbox's tables. Default "outbox". */
  readonly schema?: string
  /** Further layers: of what the handler's Effects need, or of a logger. */
  readonly layer?: Layer.Layer<never>
}

export interface RunningConsumer {
  /** Resolves when it has subscribed, which where another instance is at work may be when that has gone; rejects when it never can. */
  readonly ready: Promise<void>
  /** Rejects when the consumer can never work; resolves when it was stopped. */
  readonly done: Promise<void>
  /** Takes nothing more, waits for handlers under way, and resolves when everything is given back. */
  readonly stop: () => Promise<void>
}

/** Runs a consumer in the background: `startConsumer(consume(…), { db, broker: layerStomp({ url }) })`. */
export const startConsumer = (consumer: Consumer, options: StartOptions): RunningConsumer => {
  const inbox: Layer.Layer<Inbox> = layerPostgres(options.db, { schema: options.schema ?? "outbox" })
  let subscribed = () => {}
  const first = new Promise<void>((resolve) => {
    subscribed = resolve
  })
  const fiber = Effect.runFork(
    consumer.pipe(
      Effect.provideService(
        OnSubscribed,
        Effect.sync(() => subscribed()),
      ),
      Effect.provide(Layer.mergeAll(inbox, options.broker)),
      // `done` may have nobody who looks at it: a consumer must not end without a word.
      Effect.tapCause((cause) =>
        Cause.hasInterruptsOnly(cause)
          ? Effect.void
          : Effect.logError(`the consumer has ended: ${wordsOf(Cause.squash(cause))}`).pipe(
              Effect.annotateLogs({ consumer: definitionOf(consumer)?.settings.consumer }),
            ),
      ),
      Effect.provide(options.layer ?? Layer.empty),
    ),
  )
  const done = new Promise<void>((resolve, reject) => {
    fiber.addObserver((exit) => {
      if (Exit.isFailure(exit) && !Cause.hasInterruptsOnly(exit.cause)) reject(Cause.squash(exit.cause))
      else resolve()
    })
  })
  const ready = Promise.race([first, done])
  // Whoever does not look at them is not to be ended by them: `stop` tells, too.
  for (const promise of [done, ready]) promise.catch(() => {})
  return {
    ready,
    done,
    stop: async () => {
      await Effect.runPromise(Fiber.interrupt(fiber))
      await done
    },
  }
}
