/** A world in virtual time: everything in it happens on one `TestClock`, in an order that its seed alone decides. */
import { Duration, Effect } from "effect"
import { TestClock } from "effect/testing"
import { random } from "../support/random.ts"

/** A promise was broken. */
export class Violation extends Error {
  override readonly name = "Violation"
  /** Which promise, in a few words. */
  readonly promise: string
  constructor(promise: string, words: string) {
    super(`${promise}: ${words}`)
    this.promise = promise
  }
}

export interface World {
  readonly seed: number
  readonly random: ReturnType<typeof random>
  readonly clock: TestClock.TestClock
  /** Virtual milliseconds. */
  readonly now: () => number
  /** Calls back after so many virtual milliseconds. */
  readonly after: (millis: number, run: () => void) => void
  /** Sleeps in virtual time, outside of any process. */
  readonly sleep: (millis: number) => Effect.Effect<void>
  /** Tells the world that something is due then: it passes over time in which nothing is. */
  readonly due: (millis: number) => void
  /** A line of the history. */
  readonly tell: (who: string, what: string) => void
  /** Ends the world with a violation. */
  readonly violate: (promise: string, words: string) => void
}

export interface Ending {
  readonly violation: Violation | undefined
  readonly history: ReadonlyArray<string>
  /** Virtual milliseconds that passed. */
  readonly millis: number
}

/**
 * Lets a world go on until what `begin`, which sets it up, has given says so, a promise is broken or `limit` virtual
 * milliseconds have passed. While it runs, `setImmediate` is watched, to know when nothing more happens at an instant, and `setTimeout`, which
 * the limit of a handler's time uses, goes by virtual time.
 */
export const runWorld = async (
  seed: number,
  limit: number,
  begin: (world: World) => Promise<() => boolean>,
): Promise<Ending> => {
  // Out of its scope the clock gives no warnings, which would take real time.
  const clock = Effect.runSync(Effect.scoped(TestClock.make()))
  const history: string[] = []
  const instants: number[] = []
  let violation: Violation | undefined
  let rested = false
  const now = () => clock.currentTimeMillisUnsafe()
  const due = (millis: number) => insert(instants, now() + Math.max(0, millis))
  const sleep = (millis: number) =>
    Effect.suspend(() => {
      due(millis)
      return clock.sleep(Duration.millis(millis))
    })
  const world: World = {
    seed,
    random: random(seed),
    clock,
    now,
    due,
    sleep,
    after: (millis, run) => void Effect.runFork(Effect.andThen(sleep(millis), Effect.sync(run))),
    tell: (who, what) => void history.push(`${now().toFixed(1).padStart(9)}  ${who.padEnd(8)} ${what}`),
    violate: (promise, words) => {
      if (violation !== undefined) return
      violation = new Violation(promise, words)
      world.tell("VIOLATED", violation.message)
    },
  }

  const quiet = watchImmediates()
  const restoreTimers = virtualTimers(world.after)
  try {
    const over = await begin(world)
    while (violation === undefined && now() < limit) {
      await quiet.reached()
      if (violation !== undefined || over()) {
        rested = true
        break
      }
      const next = instants.shift()
      if (next === undefined) break
      if (next > now()) await Effect.runPromise(clock.setTime(next))
    }
    if (!rested && violation === undefined)
      world.violate(
        "nothing lost",
        `after ${Math.round(now())} ms of virtual time there is still no end to it`,
      )
  } finally {
    quiet.stop()
    restoreTimers()
  }
  return { violation, history, millis: now() }
}

/** Keeps a list in order; most of what is due is due soon. */
const insert = (sorted: number[], value: number): void => {
  let low = 0
  let high = sorted.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if (sorted[middle]! <= value) low = middle + 1
    else high = middle
  }
  if (sorted[low - 1] !== value) sorted.splice(low, 0, value)
}

/** Everything at one instant runs over microtasks and immediates: when no immediate waits, nothing more happens. */
const watchImmediates = () => {
  const real = globalThis.setImmediate
  const clear = globalThis.clearImmediate
  const waiting = new Set<unknown>()
  const watched = (run: (...values: unknown[]) => void, ...values: unknown[]) => {
    const immediate = real(() => {
      waiting.delete(immediate)
      run(...values)
    })
    waiting.add(immediate)
    return immediate
  }
  globalThis.setImmediate = watched as typeof real
  globalThis.clearImmediate = (immediate) => {
    waiting.delete(immediate)
    clear(immediate)
  }
  return {
    reached: async () => {
      do await new Promise<void>((resolve) => void real(resolve))
      while (waiting.size > 0)
    },
    stop: () => {
      globalThis.setImmediate = real
      globalThis.clearImmediate = clear
    },
  }
}

const virtualTimers = (after: World["after"]): (() => void) => {
  const { setTimeout: realSet, clearTimeout: realClear } = globalThis
  const cancels = new WeakMap<object, () => void>()
  const set = (run: (...values: unknown[]) => void, millis = 0, ...values: unknown[]) => {
    let live = true
    after(millis, () => live && run(...values))
    const timer = { ref: () => timer, unref: () => timer, hasRef: () => false }
    cancels.set(timer, () => {
      live = false
    })
    return timer
  }
  globalThis.setTimeout = set as unknown as typeof realSet
  globalThis.clearTimeout = (timer) => {
    const cancel = typeof timer === "object" && timer !== null ? cancels.get(timer) : undefined
    if (cancel === undefined) realClear(timer)
    else cancel()
  }
  return () => {
    globalThis.setTimeout = realSet
    globalThis.clearTimeout = realClear
  }
}

/** Seeds to try: `MODEL_SEED` alone where it is given, else so many, or `MODEL_SEEDS` of them. */
export const seedsOf = (count: number): ReadonlyArray<number> => {
  const { MODEL_SEED, MODEL_SEEDS } = process.env
  if (MODEL_SEED !== undefined) return [Number(MODEL_SEED)]
  return Array.from({ length: Number(MODEL_SEEDS ?? count) }, (_, index) => index + 1)
}

/** Fails with the seed and the history of a world in which a promise was broken. */
export const assertKept = (seed: number, { violation, history }: Ending): void => {
  if (violation === undefined) return
  throw new Error(
    `seed ${seed}: ${violation.message}\nMODEL_SEED=${seed} runs it again. Its history:\n${history.join("\n")}`,
  )
}
