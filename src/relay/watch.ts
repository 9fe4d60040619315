/** Looks at what waits too long: receipts that do not come, destinations whose next probe is due. */
import { Effect } from "effect"
import type { Settlement } from "../broker/broker.ts"
import { pauseAfter } from "./backoff.ts"
import { apply, note, type RelayState, toOutgoing } from "./state.ts"
import type { HeldDestination } from "./window.ts"

const EVERY_MILLIS = 200

export const watchLoop = Effect.fnUntraced(function* (state: RelayState) {
  while (true) {
    yield* Effect.sleep(EVERY_MILLIS)
    if (state.lanes.size > 0 && state.now() >= state.deadline) state.connection?.destroy()
    lookForSilence(state)
    for (const [, held] of state.window.destinations) {
      if (held.probing) continue
      held.probeAt ??= state.now() + (yield* pauseAfter(state.settings.backoff, held.steps))
      if (held.probeAt > state.now() || state.connection === undefined || state.draining) continue
      yield* Effect.forkChild(probe(state, held))
    }
  }
})

/** Tries a held destination with its lowest message, on a connection of its own: most brokers close one over such trouble. */
const probe = Effect.fnUntraced(function* (state: RelayState, held: HeldDestination) {
  const message = state.window.probe(held)
  held.probeAt = undefined
  yield* Effect.gen(function* () {
    const connection = yield* state.broker.connect()
    const token = state.lanes.get(message.lane)
    if (state.now() >= state.deadline || token === undefined || state.leaving.has(message.lane)) return
    const settlement = yield* Effect.callback<Settlement>((resume) => {
      connection.send([toOutgoing(message, state.settings.djangoHeaders)], (_, outcome) =>
        resume(Effect.succeed(outcome)),
      )
    }).pipe(
      Effect.timeoutOrElse({
        duration: state.settings.receiptMillis,
        orElse: () =>
          Effect.succeed<Settlement>({ _tag: "Refused", scope: "destination", words: held.words }),
      }),
    )
    // Its lane may have gone meanwhile: a trouble is then its new owner's to find, and here nobody would probe for it again.
    const ours = () => state.lanes.get(message.lane) === token
    if (settlement._tag === "Confirmed") return apply(state, message, settlement)
    if (settlement._tag === "Refused") return ours() ? apply(state, message, settlement) : undefined
    const { reason, words } = yield* connection.ended
    // Alone on its connection: whatever the broker closed it over, it was this message or its destination.
    if (reason === "error" && ours()) apply(state, message, { _tag: "Refused", scope: "destination", words })
  }).pipe(
    Effect.scoped,
    Effect.catch((error) => Effect.logDebug(`could not probe ${message.destination}: ${error.message}`)),
    Effect.ensuring(Effect.sync(() => state.window.probed(held, message))),
  )
})

/**
 * No receipt within the limit: when a message sent later has been confirmed, the silent one's destination is in trouble;
 * when none has, the broker is blocked (RabbitMQ does so under a resource alarm, for minutes, heart-beats going on).
 */
const lookForSilence = (state: RelayState): void => {
  const limit = state.settings.receiptMillis
  const now = state.now()
  let silent = false
  for (const { message, sentAt } of [...state.window.flights.values()]) {
    if (now - Math.max(sentAt, state.unblockedAt) < limit) continue
    if (!state.window.flights.has(message.position)) continue
    silent = true
    if (state.newestConfirmedSentAt > sentAt)
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
