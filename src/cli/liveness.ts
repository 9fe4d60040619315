/** The sign of life that a container's health check reads. */
import { writeFile } from "node:fs/promises"
import * as Effect from "effect/Effect"

/** Touches the file. That it cannot is said once a minute, and read from the file's age. */
export const touch = (file: string): Effect.Effect<void> => {
  let saidAt = Number.NEGATIVE_INFINITY
  return Effect.tryPromise(() => writeFile(file, `${new Date().toISOString()}\n`)).pipe(
    Effect.catch(() => {
      if (performance.now() - saidAt < 60_000) return Effect.void
      saidAt = performance.now()
      return Effect.logWarning("could not write the liveness file").pipe(Effect.annotateLogs({ file }))
    }),
  )
}
