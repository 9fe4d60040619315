/** Keeps the consumer subscribed: connects, waits for its turn, declares what it reads, and begins again when the connection has ended. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type {
  Broker,
  BrokerConnection,
  BrokerError,
  ConnectionEnd,
  Incoming,
  Subscription,
} from "../broker/broker.ts"
import { giveHold, holdLost, takeHold } from "./membership.ts"
import type { ConsumerState } from "./state.ts"

/** Runs each time a consumer has subscribed: from then on the broker keeps what it is to hear. */
export const OnSubscribed = Context.Reference<Effect.Effect<void>>("drizzle-outbox/OnSubscribed", {
  defaultValue: () => Effect.void,
})

/** Pauses between attempts to connect, in milliseconds: at once, then ever longer, half a second at the most. */
const PAUSES = [0, 50, 100, 200, 400, 500]

/** A connection that has ended after so many milliseconds is no better than none: the next one waits ever longer, too. */
const SHORT = 1000

/** For a broker that never says how long it keeps a dead connection. */
const UNKNOWN_LINGER = 30_000

export const subscriptionOf = ({ settings }: Pick<ConsumerState, "settings">): Subscription => ({
  destination: settings.destination,
  queue: settings.queue,
  prefetch: settings.prefetch,
  exclusive: settings.ordered,
  headers: settings.headers,
})

/** Subscribes again and again. Fails only when the broker's first answer is one that waiting does not change. */
export const subscriptionLoop = Effect.fnUntraced(function* (
  state: ConsumerState,
  broker: Broker["Service"],
  receive: (incoming: Incoming, live: () => boolean) => void,
) {
  let failures = 0
  let everSubscribed = false
  while (!state.draining) {
    const ended = yield* Effect.result(
      Effect.scoped(
        Effect.gen(function* () {
          const connection = yield* broker.connect(subscriptionOf(state))
          yield* subscribe(state, connection, receive)
          everSubscribed = true
          const began = state.now()
          const end = yield* stay(state, connection)
          failures = state.now() - began < SHORT ? failures + 1 : 0
          return end
        }),
      ),
    )
    state.connectionState = "connecting"
    state.connection = undefined
    if (ended._tag === "Failure") {
      const error = ended.failure
      if (error.reason === "taken") state.connectionState = "standing by"
      if (!everSubscribed && !error.isRetryable) return yield* error
      yield* report(state, error)
      yield* giveHold(state, 0)
      failures++
    } else {
      state.words = ended.success.words
      yield* giveHold(state, ended.success.lingerMillis)
      if (!state.draining) {
        yield* Effect.logWarning("the connection to the broker ended").pipe(
          Effect.annotateLogs({ words: ended.success.words }),
        )
      }
    }
    yield* Effect.sleep(PAUSES[Math.min(failures, PAUSES.length - 1)] as number)
  }
})

const subscribe = Effect.fnUntraced(function* (
  state: ConsumerState,
  connection: BrokerConnection,
  receive: (incoming: Incoming, live: () => boolean) => void,
) {
  const { settings } = state
  if (settings.ordered && !connection.profile.elects) {
    const linger = lingerOf(connection)
    state.leaseMillis = Math.max(1.5 * linger, linger + 1000)
    state.connectionState = "standing by"
    const gone = yield* Effect.raceFirst(takeHold(state), connection.ended)
    if (gone !== undefined) return
  }
  let live = true
  yield* Effect.addFinalizer(() =>
    Effect.sync(() => {
      live = false
    }),
  )
  yield* connection.subscribe(subscriptionOf(state), (incoming) => {
    if (!state.draining) receive(incoming, () => live)
  })
  state.connection = connection
  state.connectionState = "connected"
  state.words = undefined
  yield* Effect.logInfo("subscribed").pipe(
    Effect.annotateLogs({
      destination: settings.destination,
      queue: settings.queue,
      broker: connection.profile.server,
    }),
  )
  yield* yield* OnSubscribed
})

/** How a connection ended, and for how long the broker may not know. */
interface End {
  readonly words: string
  readonly lingerMillis: number
}

const stay = (state: ConsumerState, connection: BrokerConnection): Effect.Effect<End> => {
  const ended = connection.ended.pipe(
    Effect.map((end): End => ({ words: end.words, lingerMillis: remainingLinger(connection, end) })),
  )
  if (!state.wanted) return ended
  const lost = holdLost(state).pipe(
    Effect.map((): End => {
      connection.destroy()
      return { words: "another instance holds the subscription, or the database is away", lingerMillis: 0 }
    }),
  )
  return Effect.raceFirst(ended, lost)
}

/** How long after this end the broker may still take the connection for alive, and keep what it has handed out. */
const remainingLinger = (
  connection: BrokerConnection,
  { reason, silentMillis = 0 }: ConnectionEnd,
): number => {
  if (reason !== "outage") return 0
  // The last sign of life from us came at most half the silence after the broker's own.
  return Math.max(0, lingerOf(connection) - silentMillis / 2)
}

const lingerOf = ({ lingerMillis }: BrokerConnection): number =>
  Number.isFinite(lingerMillis) ? lingerMillis : UNKNOWN_LINGER

const report = (state: ConsumerState, error: BrokerError): Effect.Effect<void> => {
  const news = state.words !== error.message
  state.words = error.message
  return news ? Effect.logWarning(error.message) : Effect.void
}
