/** A process of the world: it can be stopped for a while, as by SIGSTOP, and killed, and then nothing of it runs. */
import { type Clock, Duration, Effect, Exit } from "effect"
import type { World } from "./world.ts"

export interface Process {
  readonly name: string
  readonly clock: Clock.Clock
  /** Goes through at once while the process runs; when it is stopped, once it goes on; never once it was killed. */
  readonly gate: Effect.Effect<void>
  /** Runs a callback in the process: now, once it goes on, or never. */
  readonly enter: (run: () => void) => void
  readonly running: () => boolean
  readonly killed: () => boolean
  /** Stops it for so many virtual milliseconds. */
  readonly freeze: (millis: number) => void
  /** Nothing of it runs any more. */
  readonly kill: () => void
  /** What the rest of the world notices of its death. */
  readonly onKill: (notice: () => void) => void
}

export const makeProcess = (world: World, name: string): Process => {
  let killed = false
  let frozen = 0
  let waiting: Array<() => void> = []
  const notices: Array<() => void> = []
  const { clock } = world
  const running = () => !killed && frozen === 0
  const enter = (run: () => void) => {
    if (running()) run()
    else if (!killed) waiting.push(run)
  }
  const gate = Effect.suspend(() =>
    running() ? Effect.void : Effect.callback<void>((resume) => enter(() => resume(Exit.void))),
  )
  return {
    name,
    clock: {
      currentTimeMillisUnsafe: () => clock.currentTimeMillisUnsafe(),
      currentTimeMillis: clock.currentTimeMillis,
      currentTimeNanosUnsafe: () => clock.currentTimeNanosUnsafe(),
      currentTimeNanos: clock.currentTimeNanos,
      monotonicTimeNanosUnsafe: () => clock.monotonicTimeNanosUnsafe(),
      monotonicTimeNanos: clock.monotonicTimeNanos,
      sleep: (duration) => Effect.andThen(world.sleep(Duration.toMillis(duration)), gate),
    },
    gate,
    enter,
    running,
    killed: () => killed,
    freeze: (millis) => {
      if (killed) return
      frozen++
      world.tell(name, `STOPPED for ${Math.round(millis)} ms`)
      world.after(millis, () => {
        frozen--
        if (!running()) return
        world.tell(name, "goes on")
        const due = waiting
        waiting = []
        // One may stop it again: what waits behind that goes on waiting.
        for (const run of due) enter(run)
      })
    },
    kill: () => {
      if (killed) return
      killed = true
      waiting = []
      world.tell(name, "KILLED")
      for (const notice of notices) notice()
    },
    onKill: (notice) => void notices.push(notice),
  }
}
