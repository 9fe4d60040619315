/** An instance's sign of life in the inbox, and its hold on the subscription where the broker elects nobody. */
import * as Effect from "effect/Effect"
import { type ConsumerState, describe } from "./state.ts"

/** How long an instance counts as alive where no connection says otherwise. */
export const DEFAULT_LEASE = 10_000

/** While the subscription is wanted and somebody else holds it, it is asked for so often. */
const ASK_MILLIS = 250

export const membershipLoop = Effect.fnUntraced(function* (state: ConsumerState) {
  let failing = false
  while (true) {
    const asked = state.now()
    state.ask.lower()
    const wanted = state.wanted
    const { leaseMillis, released } = state
    const renewed = yield* Effect.result(
      state.inbox
        .renew(state.member, { leaseMillis, state: describe(state), hold: wanted })
        .pipe(Effect.timeout(leaseMillis)),
    )
    if (renewed._tag === "Success") {
      failing = false
    }
    if (released !== state.released) {
      // Given up in the meantime: what was asked for before may have been got after.
      if (wanted) yield* release(state)
    } else if (renewed._tag === "Success") {
      // The lease counts from before it was asked for; what is left of it is for the broker to notice that we left.
      state.heldUntil = wanted && renewed.success ? asked + leaseMillis * 0.9 : Number.NEGATIVE_INFINITY
    }
    if (renewed._tag === "Failure" && !failing) {
      failing = true
      yield* Effect.logWarning("could not renew the consumer's sign of life").pipe(
        Effect.annotateLogs({ error: String(renewed.failure) }),
      )
    }
    state.hold.raise()
    yield* state.settings.onTick
    const waiting = wanted && state.heldUntil < state.now()
    const pause = Effect.sleep(waiting ? ASK_MILLIS : Math.min(1000, leaseMillis / 8))
    yield* waiting ? pause : Effect.raceFirst(pause, state.ask.await)
  }
})

/** Waits until this instance holds the subscription. */
export const takeHold = Effect.fnUntraced(function* (state: ConsumerState) {
  state.wanted = true
  state.ask.raise()
  for (let answers = 0; state.heldUntil < state.now(); answers++) {
    // The first answer may be to what was asked before the subscription was wanted.
    if (answers === 2)
      yield* Effect.logInfo("standing by: another instance is subscribed, or was until just now")
    state.hold.lower()
    yield* state.hold.await
  }
})

/** Resolves when the hold has run out or was lost. */
export const holdLost = Effect.fnUntraced(function* (state: ConsumerState) {
  while (true) {
    const left = state.heldUntil - state.now()
    if (left <= 0) return
    yield* Effect.sleep(Math.min(left, 200))
  }
})

/** Gives the subscription up; nobody takes it before the broker must have dropped the connection. */
export const giveHold = (state: ConsumerState, afterMillis: number) =>
  Effect.suspend(() => {
    const held = state.wanted
    state.wanted = false
    state.heldUntil = Number.NEGATIVE_INFINITY
    state.released = { afterMillis }
    return held ? release(state) : Effect.void
  })

const release = ({ inbox, member, released }: ConsumerState): Effect.Effect<void> =>
  Effect.ignore(inbox.release(member, released.afterMillis).pipe(Effect.timeout("2 seconds")))
