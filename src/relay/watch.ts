/** Looks at what waits too long: receipts that do not come, destinations whose next probe is due. */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { ConnectionEnd, Settlement } from "../broker/broker.ts"
import type { StoredMessage } from "../store/store.ts"
import { OTHERS_MILLIS, type SetAside } from "./aside.ts"
import { pauseAfter } from "./backoff.ts"
import { apply, note, type RelayState, toOutgoing } from "./state.ts"
import type { HeldDestination } from "./window.ts"

const EVERY_MILLIS = 200

export const watchLoop = Effect.fnUntraced(function* (state: RelayState) {
  while (true) {
    yield* Effect.sleep(EVERY_MILLIS)
    if (state.lanes.size > 0 && state.now() >= state.deadline) state.connection?.destroy()
    lookForSilence(state)
    for (const [, held] of state.window.destinations)
      if (yield* isDue(state, held)) yield* Effect.forkChild(probeDestination(state, held))
    for (const [, held] of state.window.aside)
      if (state.brokerState === "connected" && (yield* isDue(state, held)))
        yield* Effect.forkChild(probeMessage(state, held))
  }
})

const isDue = Effect.fnUntraced(function* (state: RelayState, held: HeldDestination | SetAside) {
  if (held.probing) return false
  held.probeAt ??= state.now() + (yield* pauseAfter(state.settings.backoff, held.steps))
  return held.probeAt <= state.now() && state.connection !== undefined && !state.draining
})

/** What was seen of a message alone on a connection. */
interface Tried {
  /** Undefined where none came within its time. */
  readonly settlement: Settlement | undefined
  /** How its connection ended, where that came before a settlement. */
  readonly end: ConnectionEnd | undefined
}

/** Tries a message on a connection of its own: most brokers close one over trouble. */
const tryAlone = (
  state: RelayState,
  held: HeldDestination | SetAside,
  message: StoredMessage,
  judge: (tried: Tried, ours: () => boolean) => Effect.Effect<void>,
) =>
  Effect.suspend(() => {
    state.window.probe(held, message)
    return Effect.gen(function* () {
      const connection = yield* state.broker.connect()
      const token = state.lanes.get(message.lane)
      if (state.now() >= state.deadline || token === undefined || state.leaving.has(message.lane)) return
      if (state.draining) return
      const settlement = yield* Effect.callback<Settlement>((resume) => {
        connection.send([toOutgoing(message, state.settings.djangoHeaders)], (_, outcome) =>
          resume(Effect.succeed(outcome)),
        )
      }).pipe(Effect.timeoutOption(state.settings.receiptMillis), Effect.map(Option.getOrUndefined))
      const end = settlement?._tag === "Lost" ? yield* connection.ended : undefined
      // Its lane may have gone meanwhile: a trouble is then its new owner's to find, and here nobody would probe for it again.
      yield* judge({ settlement, end }, () => state.lanes.get(message.lane) === token)
    }).pipe(
      Effect.scoped,
      Effect.catch((error) => Effect.logDebug(`could not probe ${message.destination}: ${error.message}`)),
      Effect.ensuring(Effect.sync(() => state.window.probed(held, message))),
    )
  })

/** Tries a held destination with its lowest message. */
const probeDestination = (state: RelayState, held: HeldDestination) => {
  const message = held.probe
  const refuse = (words: string) => apply(state, message, { _tag: "Refused", scope: "destination", words })
  return tryAlone(state, held, message, ({ settlement, end }, ours) =>
    Effect.sync(() => {
      if (settlement?._tag === "Confirmed") apply(state, message, settlement)
      else if (!ours()) return
      else if (settlement === undefined) refuse(held.words)
      else if (settlement._tag === "Refused") apply(state, message, settlement)
      // Alone on its connection: whatever the broker closed it over, it was this message or its destination.
      else if (end?.reason === "error") refuse(end.words)
    }),
  )
}

/** Tries what is set aside. */
const probeMessage = (state: RelayState, held: SetAside) => {
  const { message } = held
  held.steps++
  return tryAlone(
    state,
    held,
    message,
    Effect.fnUntraced(function* ({ settlement, end }, ours) {
      if (settlement?._tag === "Confirmed") return apply(state, message, settlement)
      const guilty = end?.reason === "error" || (end?.reason === "outage" && (yield* othersPass(state)))
      if (!ours() || !state.window.aside.has(message.position)) return
      if (settlement?._tag === "Refused") return apply(state, message, settlement)
      if (!guilty) return
      held.deaths++
      apply(state, message, { _tag: "Suspect", deaths: held.deaths, words: end?.words ?? "" })
    }),
  )
}

/** Whether others, sent from now on, are confirmed soon on the connection that there is: the broker is not away. */
const othersPass = Effect.fnUntraced(function* (state: RelayState) {
  const { connection } = state
  const since = state.now()
  while (state.now() - since < OTHERS_MILLIS) {
    if (connection === undefined || state.connection !== connection) return false
    if (connection.newestConfirmed() > since) return true
    yield* Effect.sleep(20)
  }
  return false
})

/** After such a part of the limit what was overtaken counts as silent: a broker that was blocked answers out of order. */
const GRACE = 5
/** What was sent so many times the limit later counts, whatever connection it went over. */
const ANY_CONNECTION = 10

/**
 * No receipt within the limit: when a message sent later over the same connection has been confirmed, and nothing came for
 * some time more, the silent one's destination is in trouble; when none has, the broker is blocked (RabbitMQ does so under
 * a resource alarm, for minutes, heart-beats going on, with one connection sooner than with another).
 */
const lookForSilence = (state: RelayState): void => {
  const { connection } = state
  if (connection === undefined) return
  const limit = state.settings.receiptMillis
  const now = state.now()
  let silent = false
  for (const flight of [...state.window.flights.values()]) {
    const { message, sentAt } = flight
    if (now - Math.max(sentAt, state.unblockedAt) < limit) continue
    if (!state.window.flights.has(message.position)) continue
    silent = true
    if (
      connection.newestConfirmed(message.lane) <= sentAt &&
      connection.newestConfirmed() <= sentAt + ANY_CONNECTION * limit
    )
      continue
    flight.overtakenAt ??= now
    if (now - flight.overtakenAt < limit / GRACE) continue
    apply(state, message, {
      _tag: "Silent",
      words: `no receipt from ${message.destination} within ${limit} ms while others get theirs`,
    })
  }
  if (silent && state.brokerState === "connected" && now - state.lastReceiptAt >= limit) {
    state.brokerState = "blocked"
    state.brokerWords = `no receipts for ${limit} ms while the connection lives`
    note(state, "warn", "the broker confirms nothing: sending stops until it does", {
      inFlight: state.window.flights.size,
    })
  }
}
