/**
 * When everything fails, nothing more is taken: after so many different keys that failed in a row, or while the database
 * is away. What the handlers call may be down for hours, and nothing is used up meanwhile.
 */
import * as Effect from "effect/Effect"

export interface Paused {
  readonly reason: "failing" | "database"
  readonly words: string
  /** Milliseconds of Unix time. */
  readonly since: number
}

export interface Pause {
  readonly paused: () => Paused | undefined
  /** Waits while paused. True for what is let through to see whether the trouble is over. */
  readonly gate: Effect.Effect<boolean>
  /** A key failed; gives whether that counts as an attempt. */
  readonly failed: (key: string, words: string) => boolean
  readonly succeeded: () => void
  readonly databaseAway: (words: string) => void
  readonly resume: () => void
  /** Lets one of those that wait through; false when nobody waits. */
  readonly letOneThrough: () => boolean
}

const through = Effect.succeed(false)

/** `onChange` runs, in plain code, at the beginning and the end of a pause. */
export const makePause = (options: {
  readonly after: number
  readonly now: () => number
  readonly onChange: (paused: Paused | undefined, before: Paused | undefined) => void
}): Pause => {
  let paused: Paused | undefined
  const streak = new Set<string>()
  const waiting = new Set<(probe: boolean) => void>()

  const begin = (reason: Paused["reason"], words: string) => {
    if (paused !== undefined) return
    paused = { reason, words, since: options.now() }
    options.onChange(paused, undefined)
  }
  const resume = () => {
    streak.clear()
    const before = paused
    if (before === undefined) return
    paused = undefined
    options.onChange(undefined, before)
    const released = [...waiting]
    waiting.clear()
    for (const pass of released) pass(false)
  }
  const wait = Effect.callback<boolean>((resumed) => {
    const pass = (probe: boolean) => resumed(Effect.succeed(probe))
    waiting.add(pass)
    return Effect.sync(() => waiting.delete(pass))
  })
  return {
    paused: () => paused,
    gate: Effect.suspend(() => (paused === undefined ? through : wait)),
    failed: (key, words) => {
      if (paused !== undefined) return false
      streak.add(key)
      if (streak.size >= options.after) begin("failing", words)
      return true
    },
    succeeded: () => {
      if (paused === undefined) streak.clear()
      else resume()
    },
    databaseAway: (words) => begin("database", words),
    resume,
    letOneThrough: () => {
      for (const pass of waiting) {
        waiting.delete(pass)
        pass(true)
        return true
      }
      return false
    },
  }
}
