/** Keeps the relay connected: a lost connection makes everything in flight unknown, and the next one starts from the lowest position. */
import * as Effect from "effect/Effect"
import type { BrokerError } from "../broker/broker.ts"
import { FUTILE_CONNECTIONS } from "./aside.ts"
import { apply, note, type RelayState } from "./state.ts"
import { openTrunk, type Trunk, type TrunkEnd } from "./trunk.ts"

/** Pauses between attempts to connect, in milliseconds: at once, then ever longer, half a second at the most. */
const PAUSES = [0, 50, 100, 200, 400, 500]

/** All connections are used where this part of the window is in flight. */
const CROWD = 10

/** Connects again and again. Fails only when the very first answer of the broker is one that waiting does not change. */
export const connectionLoop = Effect.fnUntraced(function* (state: RelayState) {
  let failures = 0
  let everConnected = false
  /** Connections in a row that were closed with messages in flight and none confirmed. */
  let futile = 0
  while (true) {
    const since = state.now()
    const failed = yield* Effect.scoped(
      Effect.gen(function* () {
        const trunk = yield* openTrunk(state.broker, state.settings.window / CROWD)
        everConnected = true
        begin(state, trunk)
        const { name, server } = trunk.profile
        yield* Effect.logInfo("connected to the broker").pipe(
          Effect.annotateLogs({
            profile: name,
            server,
            connections: trunk.size,
          }),
        )
        // Whatever ends this scope ends the sending, too.
        yield* Effect.addFinalizer(() => Effect.sync(() => leave(state, trunk)))
        return yield* trunk.ended
      }),
    ).pipe(Effect.result)
    state.brokerState = "connecting"
    if (failed._tag === "Failure") {
      if (!everConnected && !failed.failure.isRetryable) return yield* failed.failure
      yield* report(state, failed.failure)
      failures++
    } else {
      const end = failed.success
      const closed =
        end.reason === "outage" && end.silentMillis === undefined && state.window.anyOf(end.carried)
      futile = end.confirmed ? 0 : closed ? futile + 1 : futile
      const suspicious = closed && (futile >= FUTILE_CONNECTIONS || state.window.suspects.any())
      yield* ended(state, end, suspicious)
      failures = state.lastReceiptAt > since ? 0 : failures + 1
    }
    yield* Effect.sleep(PAUSES[Math.min(failures, PAUSES.length - 1)]!)
  }
})

const begin = (state: RelayState, trunk: Trunk): void => {
  state.connection = trunk
  state.brokerState = "connected"
  state.brokerWords = undefined
  state.brokerServer = trunk.profile.server
  state.unblockedAt = state.now()
  state.window.connected(trunk.profile)
  state.wake.raise()
}

const leave = (state: RelayState, trunk: Trunk): void => {
  if (state.connection === trunk) state.connection = undefined
}

const ended = (state: RelayState, end: TrunkEnd, suspicious: boolean): Effect.Effect<void> => {
  const unnamed = end.reason === "error" && !end.named
  const inFlight = state.window.flights.size
  const { alone, deaths, aside } = state.window.lost(
    unnamed ? "unnamed" : suspicious ? "silently" : "known",
    end.carried,
  )
  if (aside !== undefined) {
    const { id, event, destination, key } = aside
    note(state, "warn", "message set aside: the broker closes connections over it, or is in trouble", {
      id,
      event,
      destination,
      key,
      words: end.words,
    })
  }
  if (alone !== undefined) apply(state, alone, { _tag: "Suspect", deaths, words: end.words })
  state.brokerWords = end.words
  if (end.reason === "closed") return Effect.void
  return Effect.logWarning("the connection to the broker ended").pipe(
    Effect.annotateLogs({ reason: end.reason, words: end.words, inFlight }),
  )
}

const report = (state: RelayState, error: BrokerError): Effect.Effect<void> => {
  const news = state.brokerWords !== error.message
  state.brokerWords = error.message
  return news ? Effect.logWarning(error.message) : Effect.void
}
