/** Forgets what was handled long ago. */
import * as Effect from "effect/Effect"
import type { ConsumerState } from "./state.ts"

const LIMIT = 5000

/** Looks every minute, and again at once while there is more. */
export const retentionLoop = Effect.fnUntraced(function* ({ inbox, member, settings }: ConsumerState) {
  while (true) {
    const purged = yield* inbox
      .purge(member, settings.retentionMillis, LIMIT)
      .pipe(Effect.orElseSucceed(() => 0))
    yield* Effect.sleep(purged < LIMIT ? "1 minute" : "100 millis")
  }
})
