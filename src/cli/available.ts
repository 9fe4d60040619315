/** A service waits for what is away when it starts. */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"

interface Retryable {
  readonly message: string
  readonly isRetryable: boolean
}

/** Tries again every second, with a warning where it says something new, for as long as the failure says that it may pass. */
export const whenAvailable = <A, E extends Retryable, R>(
  effect: Effect.Effect<A, E, R>,
  told?: string,
): Effect.Effect<A, E, R | Scope.Scope> =>
  attempt(effect).pipe(
    Effect.catch((error) =>
      error.isRetryable
        ? (error.message === told ? Effect.void : Effect.logWarning(error.message)).pipe(
            Effect.andThen(Effect.sleep("1 second")),
            Effect.andThen(Effect.suspend(() => whenAvailable(effect, error.message))),
          )
        : Effect.fail(error),
    ),
  )

/** What a failed attempt had opened is closed at once, not at the end of the program. */
const attempt = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R | Scope.Scope> =>
  Effect.gen(function* () {
    const scope = yield* Effect.flatMap(Effect.scope, (parent) => Scope.fork(parent))
    return yield* Scope.provide(effect, scope).pipe(
      Effect.onExit((exit) => (Exit.isSuccess(exit) ? Effect.void : Scope.close(scope, exit))),
    )
  })
