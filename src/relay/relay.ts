/**
 * The relay: moves pending messages to the broker and records what the broker has confirmed.
 *
 * At least once: a crash between the broker's confirmation and its record sends again, under the same message id. Order is
 * kept per destination and key. Time in the tables is the database's clock; the lease is also watched on a monotonic one.
 */
import { hostname } from "node:os"
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Schedule from "effect/Schedule"
import { Broker, type BrokerError } from "../broker/broker.ts"
import type { StoreError } from "../store/error.ts"
import { OutboxStore } from "../store/store.ts"
import { defaultBackoff } from "./backoff.ts"
import { connectionLoop } from "./connection.ts"
import { leaseLoop } from "./lease.ts"
import { readLoop } from "./reader.ts"
import { retentionLoop } from "./retention.ts"
import { settleLoop } from "./settler.ts"
import { makeState, type RelaySettings, type RelayState } from "./state.ts"
import { Wakeup } from "./wakeup.ts"
import { watchLoop } from "./watch.ts"

export interface RelayOptions {
  /** What operators call it. Default `host:pid`. */
  readonly name?: string
  /** How long its lanes stay its own without a sign of life; a killed relay is replaced within this + 2 s. Default 10 s. */
  readonly lease?: Duration.Input
  /** Messages in flight at the most, and so repeated at the most after a crash. Default 1,000. */
  readonly window?: number
  /** Bytes of bodies in flight at the most. Default 16 MiB. */
  readonly windowBytes?: number
  /** Messages in one read at the most. Default 250. */
  readonly batch?: number
  /** Longest pause between polls when nothing happens. Default 500 ms. */
  readonly pollInterval?: Duration.Input
  /** How long a confirmation may take before its destination, or the broker, counts as silent. Default 30 s. */
  readonly receiptTimeout?: Duration.Input
  /** Refusals after which a message is dead. Default 50. */
  readonly maxAttempts?: number
  /** Pauses between attempts, and between probes of a held destination. Default: 1 s doubling to 240 s, ± 20 %. */
  readonly backoff?: Schedule.Schedule<unknown, unknown>
  /** How long published messages stay, from when they were published. `0` deletes them as they are settled. Default 30 days. */
  readonly retention?: Duration.Input
  /** How long dead messages stay, from when they died. Default: until they are discarded. */
  readonly deadRetention?: Duration.Input
  /** How long a stop waits for what is in flight. Default 5 s. */
  readonly drainTimeout?: Duration.Input
  /** End when nothing that may leave is left. Default false: run until interrupted. */
  readonly once?: boolean
  /** Send the headers that django-outbox-pattern reads, too. Default true. */
  readonly djangoHeaders?: boolean
  /** Runs about every second while the relay keeps its lease: a sign of life. A broker that is away is no reason to restart. */
  readonly onTick?: Effect.Effect<void>
}

/** What a relay did. */
export interface RelayReport {
  readonly published: number
  readonly dead: number
  /** Refused, to be tried again. */
  readonly refused: number
  /** Pending messages that could not leave: their key or destination is held, or they are not due. */
  readonly pending: number
}

const settingsOf = (options: RelayOptions): RelaySettings => ({
  name: options.name ?? `${hostname()}:${process.pid}`,
  leaseMillis: Duration.toMillis(options.lease ?? "10 seconds"),
  window: options.window ?? 1000,
  windowBytes: options.windowBytes ?? 16 * 1024 * 1024,
  batch: options.batch ?? 250,
  pollMillis: Duration.toMillis(options.pollInterval ?? "500 millis"),
  receiptMillis: Duration.toMillis(options.receiptTimeout ?? "30 seconds"),
  maxAttempts: options.maxAttempts ?? 50,
  backoff: options.backoff ?? defaultBackoff,
  retentionMillis: Duration.toMillis(options.retention ?? "30 days"),
  deadRetentionMillis:
    options.deadRetention === undefined ? undefined : Duration.toMillis(options.deadRetention),
  drainMillis: Duration.toMillis(options.drainTimeout ?? "5 seconds"),
  once: options.once ?? false,
  djangoHeaders: options.djangoHeaders ?? true,
  onTick: options.onTick ?? Effect.void,
})

/**
 * Runs a relay until it is interrupted, or with `once` until nothing that may leave is left.
 *
 * **Details**  On interruption it stops reading, waits for what is in flight (`drainTimeout`), records it, gives its lanes
 * back and leaves the broker. Several may run at once, in one process or many: they share the lanes.
 *
 * **Gotchas**  Fails when the tables are not what it needs, or when the broker's first answer is a refusal of the login;
 * every later trouble is waited out.
 */
export const runRelay = (
  options: RelayOptions = {},
): Effect.Effect<RelayReport, StoreError | BrokerError, OutboxStore | Broker | Wakeup> =>
  Effect.scoped(
    Effect.gen(function* () {
      const store = yield* OutboxStore
      const broker = yield* Broker
      const wakeup = yield* Wakeup
      const settings = settingsOf(options)
      const state = yield* makeState(settings, store, broker, yield* openStore(store))
      const done = yield* Deferred.make<void, BrokerError>()
      const background = <E>(name: string, loop: Effect.Effect<unknown, E>) =>
        loop.pipe(
          Effect.tapCause((cause) =>
            Cause.hasInterruptsOnly(cause)
              ? Effect.void
              : Effect.logError(`the relay's ${name} failed`, cause),
          ),
          Effect.forkScoped,
        )
      yield* background(
        "connection",
        connectionLoop(state).pipe(Effect.catch((error) => Deferred.fail(done, error))),
      )
      yield* background("settling", settleLoop(state))
      yield* background("lease", leaseLoop(state))
      yield* background("watch", watchLoop(state))
      yield* background("retention", retentionLoop(state))
      yield* background("reading", readLoop(state, settings.once ? finishOnce(state, done) : Effect.void))
      yield* wakeup.listen(() => {
        state.nudged = true
        state.wake.raise()
      })
      yield* Effect.addFinalizer(() => drain(state))
      yield* Deferred.await(done)
      const { pending } = yield* store.counts
      const { published, dead, refused } = state.counts
      return { published, dead, refused, pending }
    }),
  )

/** A database that is away is waited for, with a warning where it says something new; tables that do not fit are not. */
const openStore = (store: OutboxStore["Service"], told?: string): Effect.Effect<number, StoreError> =>
  store.open.pipe(
    Effect.catch((error) =>
      error.isRetryable
        ? (error.message === told ? Effect.void : Effect.logWarning(error.message)).pipe(
            Effect.andThen(Effect.sleep("1 second")),
            Effect.andThen(Effect.suspend(() => openStore(store, error.message))),
          )
        : Effect.fail(error),
    ),
  )

/** With `once`: ends when this relay has nothing to do and no lane waits for a relay that has died. */
const finishOnce = (state: RelayState, done: Deferred.Deferred<void, BrokerError>): Effect.Effect<void> =>
  Effect.suspend(() =>
    state.lanes.size === 0 || state.connection === undefined || state.cursor.uncertain() || state.orphans > 0
      ? Effect.void
      : Effect.asVoid(Deferred.succeed(done, undefined)),
  )

const drain = Effect.fnUntraced(function* (state: RelayState) {
  state.draining = true
  state.window.drain()
  const until = state.now() + state.settings.drainMillis
  while (!state.window.idle() && state.connection !== undefined && state.now() < until) {
    state.settle.raise()
    yield* Effect.sleep(10)
  }
  const left = state.window.flights.size
  yield* state.store.release(state.id).pipe(
    Effect.timeout("1 second"),
    Effect.exit,
    Effect.tap((exit) =>
      Exit.isFailure(exit)
        ? Effect.logWarning("could not give the lanes back: they are free when the lease ends")
        : Effect.void,
    ),
  )
  yield* Effect.logInfo("relay stopped").pipe(
    Effect.annotateLogs({ published: state.counts.published, unconfirmed: left }),
  )
})
