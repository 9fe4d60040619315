/** Deletes finished messages whose time is over, in small batches. */
import * as Effect from "effect/Effect"
import type { RelayState } from "./state.ts"

const EVERY = "1 minute"
const BATCH = 1000
const PAUSE_MILLIS = 20

/** Runs in the relay that holds lane 0, so in one at a time. */
export const retentionLoop = Effect.fnUntraced(function* (state: RelayState) {
  while (true) {
    yield* Effect.sleep(EVERY)
    if (!state.lanes.has(0)) continue
    yield* purgeAll(state).pipe(Effect.catch((error) => Effect.logWarning(error.message)))
  }
})

const purgeAll = Effect.fnUntraced(function* (state: RelayState) {
  let after: number | undefined = 0
  let deleted = 0
  while (after !== undefined) {
    const result: { readonly deleted: number; readonly next: number | undefined } = yield* state.store.purge({
      publishedMillis: state.settings.retentionMillis,
      deadMillis: state.settings.deadRetentionMillis,
      after,
      limit: BATCH,
    })
    deleted += result.deleted
    after = result.next
    if (after !== undefined) yield* Effect.sleep(PAUSE_MILLIS)
  }
  if (deleted > 0) yield* Effect.logInfo("finished messages purged").pipe(Effect.annotateLogs({ deleted }))
})
