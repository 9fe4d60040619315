/** A consumer's life: joins, subscribes, works, and leaves in order. */
import { randomUUID } from "node:crypto"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import { Broker, type BrokerError, type Incoming } from "../broker/broker.ts"
import { Inbox } from "../inbox/inbox.ts"
import { makeSignal } from "../relay/signal.ts"
import type { StoreError } from "../store/error.ts"
import { type Admitted, admit } from "./admission.ts"
import { makeBatches } from "./batches.ts"
import type { Definition } from "./definition.ts"
import { makeEngine } from "./engine.ts"
import type { ConsumerError } from "./error.ts"
import { makeLanes } from "./lanes.ts"
import { DEFAULT_LEASE, membershipLoop } from "./membership.ts"
import { checkRetention } from "./options.ts"
import { makePause, type Paused } from "./pause.ts"
import { retentionLoop } from "./retention.ts"
import { probeLoop, retryLoop } from "./retries.ts"
import type { ConsumerState } from "./state.ts"
import { subscriptionLoop } from "./subscription.ts"

/** A process may run several consumers: each line says whose it is. */
const annotated = <A, E, R>(running: Effect.Effect<A, E, R>, { settings }: Definition) =>
  Effect.annotateLogs(running, { consumer: settings.consumer })

/** Runs until it is interrupted. */
export const runConsumer = Effect.fnUntraced(function* (
  definition: Definition,
): Effect.fn.Return<never, ConsumerError | StoreError | BrokerError, Broker | Inbox> {
  const { settings } = definition
  yield* checkRetention(settings)
  const inbox = yield* Inbox
  const broker = yield* Broker
  const member = {
    id: randomUUID(),
    name: settings.name,
    consumer: settings.consumer,
    queue: settings.queue,
  }
  yield* whenThere(inbox.open)
  const unclean = yield* whenThere(inbox.join(member, DEFAULT_LEASE, settings.ordered))
  // Leaving comes after the connection's end, which the scope inside brings: who takes over finds everything given back.
  return yield* Effect.scoped(
    Effect.gen(function* () {
      const state = yield* makeState(definition, inbox, member)
      if (unclean) state.suspects = settings.prefetch
      const failed = yield* Deferred.make<never, BrokerError>()
      // A loop that ends would leave a consumer that looks alive and does nothing: then it ends as a whole.
      const background = (name: string, loop: Effect.Effect<unknown, BrokerError>) =>
        loop.pipe(
          Effect.tapCause((cause) =>
            Cause.hasInterruptsOnly(cause)
              ? Effect.void
              : Effect.andThen(
                  Cause.hasDies(cause)
                    ? Effect.logError(`the consumer's ${name} failed`, cause)
                    : Effect.void,
                  Deferred.failCause(failed, cause),
                ),
          ),
          Effect.forkScoped,
        )
      yield* background("sign of life", membershipLoop(state))
      yield* background("retries", retryLoop(state))
      yield* background("pause", probeLoop(state))
      yield* background("retention", retentionLoop(state))
      yield* background("subscription", subscriptionLoop(state, broker, makeReceive(state, definition)))
      yield* Effect.addFinalizer(() => drain(state))
      return yield* Deferred.await(failed)
    }),
  ).pipe(Effect.ensuring(inbox.leave(member).pipe(Effect.timeout("2 seconds"), Effect.ignore)))
}, annotated)

const makeState = Effect.fnUntraced(function* (
  definition: Definition,
  inbox: Inbox["Service"],
  member: ConsumerState["member"],
) {
  const { settings } = definition
  const clock = yield* Clock.Clock
  const context = yield* Effect.context<never>()
  const log = Effect.runForkWith(context)
  const lanes = yield* makeLanes(settings.parallel)
  const due = yield* makeSignal
  const paused = yield* makeSignal
  const hold = yield* makeSignal
  const ask = yield* makeSignal
  const counts = { handled: 0, duplicates: 0, failed: 0, dead: 0 }
  const pause = makePause({
    after: settings.pauseAfter,
    now: () => clock.currentTimeMillisUnsafe(),
    onChange: (began, ended) => {
      paused.raise()
      due.raise()
      log(tellPause(began, ended))
    },
  })
  const engine = makeEngine({ definition, context, inbox, pause, counts, onParked: due.raise })
  const state: ConsumerState = {
    settings,
    inbox,
    member,
    engine,
    lanes,
    pause,
    counts,
    now: () => Number(clock.monotonicTimeNanosUnsafe()) / 1e6,
    due,
    paused,
    hold,
    ask,
    connection: undefined,
    connectionState: "connecting",
    words: undefined,
    wanted: false,
    heldUntil: Number.NEGATIVE_INFINITY,
    released: { afterMillis: 0 },
    leaseMillis: DEFAULT_LEASE,
    suspects: 0,
    draining: false,
  }
  return state
})

const tellPause = (began: Paused | undefined, ended: Paused | undefined) =>
  began !== undefined
    ? Effect.logWarning("paused").pipe(Effect.annotateLogs({ reason: began.reason, words: began.words }))
    : Effect.logInfo("resumed").pipe(Effect.annotateLogs({ reason: ended?.reason }))

/** Takes deliveries in, each into the lane of its key. */
const makeReceive = (state: ConsumerState, { settings }: Definition) => {
  const { engine, lanes } = state
  // Batches of one queue follow each other, or the order of their keys would be lost.
  const batchLane = settings.ordered ? "batch" : null
  const batches =
    settings.batch &&
    makeBatches(settings.batch, (batch) => lanes.push(batchLane, () => engine.receiveBatch(batch)))
  return (incoming: Incoming, connected: () => boolean) => {
    const suspect = incoming.redelivered || state.suspects > 0
    if (state.suspects > 0) state.suspects--
    const admitted: Admitted = admit(incoming, settings, suspect, () => connected() && !state.draining)
    if (batches === undefined) {
      lanes.push(settings.ordered ? admitted.arrival.key : null, (handled) =>
        engine.receive(admitted, handled),
      )
    } else if (suspect) {
      batches.flush()
      lanes.push(batchLane, () => engine.receive(admitted))
    } else {
      batches.add(admitted)
    }
  }
}

/** A database that is away is waited for, with a warning where it says something new; tables that do not fit are not. */
const whenThere = <A>(effect: Effect.Effect<A, StoreError>, told?: string): Effect.Effect<A, StoreError> =>
  effect.pipe(
    Effect.catch((error) =>
      error.isRetryable
        ? (error.message === told ? Effect.void : Effect.logWarning(error.message)).pipe(
            Effect.andThen(Effect.sleep("1 second")),
            Effect.andThen(Effect.suspend(() => whenThere(effect, error.message))),
          )
        : Effect.fail(error),
    ),
  )

const drain = Effect.fnUntraced(function* (state: ConsumerState) {
  state.draining = true
  state.lanes.clear()
  state.pause.resume()
  yield* state.lanes.idle.pipe(Effect.timeoutOption(state.settings.drainMillis))
  yield* Effect.logInfo("consumer stopped").pipe(
    Effect.annotateLogs({ ...state.counts, unfinished: state.lanes.running() }),
  )
})
