/** The way between a process and its database: statements take their time, fail before or after they were carried out, or are cut off from a process that is stopped. */
import { Effect } from "effect"
import type { StoreError } from "../../src/store/error.ts"
import type { Process } from "./process.ts"
import type { World } from "./world.ts"

export interface Database {
  /** Nobody reaches it for so many virtual milliseconds. */
  readonly away: (millis: number) => void
  /** Carries out a statement for a process. `sent` and `carriedOut` see it at the moments between which the database works on it. */
  readonly statement: <A, E>(
    process: Process,
    work: Effect.Effect<A, E>,
    moments?: Moments<A>,
  ) => Effect.Effect<A, E | StoreError>
}

export interface Moments<A> {
  /** It is about to be carried out. */
  readonly before?: () => void
  /** It has been carried out, and nobody was told. */
  readonly after?: (value: A) => void
}

/** A database whose answers take up to `longest` virtual milliseconds each way. */
export const makeDatabase = (world: World, longest: number, unavailable: () => StoreError): Database => {
  let awayUntil = 0
  const way = Effect.suspend(() => world.sleep(world.random.next() * longest))
  const reachable = Effect.suspend(() => (world.now() < awayUntil ? Effect.fail(unavailable()) : Effect.void))
  return {
    away: (millis) => {
      world.tell("database", `AWAY for ${Math.round(millis)} ms`)
      awayUntil = world.now() + millis
    },
    statement: (process, work, { before, after } = {}) =>
      Effect.gen(function* () {
        yield* process.gate
        yield* way
        yield* reachable
        before?.()
        // What `before` has stopped is stopped on the way.
        yield* process.gate
        if (process.killed()) return yield* Effect.never
        const value = yield* work
        after?.(value)
        yield* way
        // An answer that is lost leaves open whether the statement was carried out.
        yield* reachable
        yield* process.gate
        return value
      }),
  }
}
