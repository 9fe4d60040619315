/** A wake-up call between loops. */
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"

/** Wakes a loop, after what is under way in plain code has ended: a latch would run the loop in the middle of it. */
export interface Signal {
  readonly await: Effect.Effect<void>
  readonly raise: () => void
  readonly lower: () => void
}

/** Down at first. */
export const makeSignal = Effect.map(Latch.make(false), (latch): Signal => {
  let raised = false
  return {
    await: latch.await,
    raise: () => {
      if (raised) return
      raised = true
      queueMicrotask(() => {
        raised = false
        latch.openUnsafe()
      })
    },
    lower: () => void latch.closeUnsafe(),
  }
})
