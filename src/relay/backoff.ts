/** Back-off as a value: a schedule replayed up to the stored attempt count, so that it survives restarts and moves between relays. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Pull from "effect/Pull"
import * as Schedule from "effect/Schedule"

/** 1 s, 2 s, 4 s … at most 240 s apart, each ± 20 %. */
export const defaultBackoff: Schedule.Schedule<unknown, unknown> = Schedule.min([
  Schedule.exponential("1 second"),
  Schedule.spaced("240 seconds"),
]).pipe(Schedule.jittered)

/** The pause after so many attempts (1 or more), in milliseconds; a schedule that has ended repeats its last pause. */
export const pauseAfter = Effect.fnUntraced(function* (
  schedule: Schedule.Schedule<unknown, unknown>,
  attempts: number,
) {
  const step = yield* Schedule.toStep(schedule)
  let now = 0
  let pause = 0
  for (let attempt = 1; attempt <= attempts; attempt++) {
    const next = yield* Pull.catchDone(step(now, undefined), () => Effect.undefined)
    if (next === undefined) break
    pause = Duration.toMillis(next[1])
    now += pause
  }
  return pause
})
