/** Looks at what waits too long: receipts that do not come, destinations whose next probe is due. */
import { Effect } from "effect"
import { pauseAfter } from "./backoff.ts"
import { apply, note, type RelayState, send } from "./state.ts"

const EVERY_MILLIS = 200

export const watchLoop = Effect.fnUntraced(function* (state: RelayState) {
  while (true) {
    yield* Effect.sleep(EVERY_MILLIS)
    if (state.lanes.size > 0 && state.now() >= state.deadline) state.connection?.destroy()
    lookForSilence(state)
    for (const [destination, held] of state.window.destinations) {
      if (held.probing) continue
      held.probeAt ??= state.now() + (yield* pauseAfter(state.settings.backoff, held.steps))
      if (held.probeAt > state.now() || state.connection === undefined || state.draining) continue
      const probe = state.window.probe(destination)
      if (probe !== undefined) send(state, [probe])
    }
  }
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
