/** Retries of what is parked, and the probes that end a pause. */
import * as Effect from "effect/Effect"
import { pauseAfter } from "../relay/backoff.ts"
import type { ConsumerState } from "./state.ts"

/** The inbox is looked at so often even when nothing is known to be due: other instances park, and operators requeue. */
const LONGEST_LOOK = 1000

/** Parked messages in memory at the most. */
const MOST_QUEUED = 1000

/** A pause is looked at again at least so often. */
const LONGEST_PROBE = 15_000

/** Hands what is due to the lanes of its keys. */
export const retryLoop = Effect.fnUntraced(function* (state: ConsumerState) {
  const { inbox, member, lanes, engine, pause, settings } = state
  const queued = new Set<string>()
  while (true) {
    state.due.lower()
    let pauseMillis = LONGEST_LOOK
    if (pause.paused() === undefined && !state.draining) {
      // What waits in the lane of a slow key is not to hide what is due of others.
      const limit = Math.min(MOST_QUEUED, 4 * settings.parallel + queued.size)
      const looked = yield* Effect.result(inbox.due(member, limit, false))
      if (looked._tag === "Failure") {
        pause.databaseAway(looked.failure.message)
      } else {
        const { parked, nextMillis } = looked.success
        for (const entry of parked) {
          const { messageId, key } = entry.arrival
          if (queued.has(messageId)) continue
          queued.add(messageId)
          // A pause may begin until its turn comes: then it is looked at again when that has ended.
          const retry = Effect.suspend(() =>
            pause.paused() === undefined ? engine.retry(entry, false) : Effect.void,
          ).pipe(
            Effect.ensuring(
              // Who ends it tells; what another instance is at, or a pause holds, is looked at again later.
              Effect.sync(() => {
                queued.delete(messageId)
              }),
            ),
          )
          lanes.push(settings.ordered ? key : null, () => Effect.asVoid(retry))
        }
        if (nextMillis !== undefined) pauseMillis = Math.min(LONGEST_LOOK, Math.max(nextMillis, 10))
        if (parked.length > 0) pauseMillis = LONGEST_LOOK
      }
    }
    yield* Effect.raceFirst(state.due.await, Effect.sleep(pauseMillis))
  }
})

/** While paused: one try a back-off step, of a parked message and of a waiting delivery in turn. */
export const probeLoop = Effect.fnUntraced(function* (state: ConsumerState) {
  const { inbox, member, engine, pause, settings } = state
  while (true) {
    state.paused.lower()
    if (pause.paused() === undefined) yield* state.paused.await
    for (let step = 1; pause.paused() !== undefined; step++) {
      yield* Effect.sleep(Math.min(LONGEST_PROBE, yield* pauseAfter(settings.retry, step)))
      const looked = yield* Effect.result(inbox.due(member, 1, true))
      const paused = pause.paused()
      if (looked._tag === "Failure" || paused === undefined) continue
      if (paused.reason === "database") {
        pause.resume()
        continue
      }
      const [parked] = looked.success.parked
      if (step % 2 === 0 && pause.letOneThrough()) continue
      if (parked !== undefined) yield* engine.retry(parked, true)
      else if (!pause.letOneThrough()) pause.resume()
    }
  }
})
