/** Runs tasks of one key one after another, and so many handlers at a time. */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"

/** `handled` lets the next begin while this one's end is still under way, but none of its own key. */
export type Task = (handled: () => void) => Effect.Effect<void>

export interface Lanes {
  /** Runs the task after all that was pushed before it for this key; null has no predecessor. */
  readonly push: (key: string | null, task: Task) => void
  /** Drops what has not begun. */
  readonly clear: () => void
  readonly running: () => number
  /** Resolves when nothing runs and nothing waits. */
  readonly idle: Effect.Effect<void>
}

/** No task may fail; should one be broken all the same, nobody else would tell. */
const complain = (cause: Cause.Cause<never>) =>
  Cause.hasInterruptsOnly(cause)
    ? Effect.void
    : Effect.logError(
        "a message could not be worked on, and stays with the broker until the next connection",
        cause,
      )

/** Tasks are interrupted with the scope. */
export const makeLanes = (parallel: number): Effect.Effect<Lanes, never, Scope.Scope> =>
  Effect.gen(function* () {
    const fork = Effect.runForkWith(yield* Effect.context<never>())
    /** What waits behind the running task of its key. */
    const busy = new Map<string, Array<Task>>()
    let ready: Array<{ readonly key: string | null; readonly task: Task }> = []
    let head = 0
    const fibers = new Set<Fiber.Fiber<void>>()
    /** Those that are not handled yet. */
    let handling = 0
    let closed = false
    const waiting = new Set<() => void>()

    const begin = (key: string | null, task: Task) => {
      let handled = false
      const free = () => {
        if (handled) return
        handled = true
        handling--
      }
      handling++
      const fiber = fork(
        Effect.tapCause(
          task(() => {
            free()
            next()
          }),
          complain,
        ),
      )
      fibers.add(fiber)
      fiber.addObserver(() => {
        fibers.delete(fiber)
        free()
        release(key)
        next()
      })
    }
    const release = (key: string | null) => {
      if (key === null) return
      const behind = busy.get(key)
      const task = behind?.shift()
      if (task === undefined) busy.delete(key)
      else ready.push({ key, task })
    }
    const next = () => {
      while (!closed && handling < parallel && head < ready.length) {
        const { key, task } = ready[head++] as (typeof ready)[number]
        begin(key, task)
      }
      if (head === ready.length) {
        ready = []
        head = 0
      }
      if (fibers.size === 0 && ready.length === 0) for (const tell of [...waiting]) tell()
    }

    yield* Effect.addFinalizer(() =>
      Effect.suspend(() => {
        closed = true
        return Fiber.interruptAll([...fibers])
      }),
    )
    return {
      push: (key, task) => {
        if (closed) return
        const behind = key === null ? undefined : busy.get(key)
        if (behind !== undefined) {
          behind.push(task)
          return
        }
        if (key !== null) busy.set(key, [])
        ready.push({ key, task })
        next()
      },
      clear: () => {
        for (const { key } of ready.slice(head)) if (key !== null) busy.delete(key)
        ready = []
        head = 0
        for (const behind of busy.values()) behind.length = 0
      },
      running: () => fibers.size,
      idle: Effect.callback<void>((resume) => {
        if (fibers.size === 0 && ready.length === head) return resume(Effect.void)
        const tell = () => {
          waiting.delete(tell)
          resume(Effect.void)
        }
        waiting.add(tell)
        return Effect.sync(() => waiting.delete(tell))
      }),
    }
  })
