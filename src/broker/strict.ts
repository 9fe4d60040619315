/**
 * A broker that refuses what is proven to lead nowhere, so that it stays pending instead of being confirmed and dropped.
 *
 * `Routes` is looked at when a connection opens and every `every`, never for a message: what changes in between is not
 * seen until the next look.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Semaphore from "effect/Semaphore"
import { Broker, type BrokerConnection, BrokerError, type Settlement } from "./broker.ts"
import { type RouteOf, Routes } from "./routes.ts"

export interface StrictOptions {
  /** How often the routes are looked at. Default 10 seconds. */
  readonly every?: Duration.Input
}

/** A connection is opened to try a held destination, too: its look must not be older than a back-off step. */
const FRESH_MILLIS = 1000
/** A look may take so long; then nothing is known. */
const LOOK_TIMEOUT = "5 seconds"
/** Destinations whose routes could not be proven are told once each, and so many at the most. */
const TOLD = 100

const nothingKnown: RouteOf = () => ({ _tag: "Unknown", words: "" })

/**
 * The given broker, strict: a message whose destination leads nowhere is refused with scope `destination`, which the relay
 * answers by holding the destination. What cannot be proven is sent as always, with one warning.
 */
export const layerStrict = (options: StrictOptions = {}): Layer.Layer<Broker, never, Broker> =>
  Layer.effect(Broker, make(Duration.toMillis(options.every ?? "10 seconds")))

const make = Effect.fnUntraced(function* (every: number) {
  const broker = yield* Broker
  const routes = yield* Routes
  const turn = yield* Semaphore.make(1)
  const unproven = new Map<string, string>()
  const told = new Set<string>()
  let routeOf = nothingKnown
  let lookedAt = Number.NEGATIVE_INFINITY
  let trouble: string | undefined
  let open = 0

  const look = Effect.suspend(() => {
    const at = performance.now()
    return routes.look.pipe(
      Effect.timeoutOrElse({
        duration: LOOK_TIMEOUT,
        orElse: () =>
          Effect.fail(new BrokerError({ reason: "timeout", message: `no answer within ${LOOK_TIMEOUT}` })),
      }),
      Effect.matchEffect({
        onSuccess: (seen) => {
          routeOf = memoised(seen)
          const again = trouble !== undefined
          trouble = undefined
          return again ? Effect.logInfo("strict: it is known again where destinations lead") : Effect.void
        },
        onFailure: ({ message }) => {
          routeOf = nothingKnown
          const news = message !== trouble
          trouble = message
          return news
            ? Effect.logWarning(
                `strict: where destinations lead is not known, so everything is sent: ${message}`,
              )
            : Effect.void
        },
      }),
      Effect.ensuring(
        Effect.sync(() => {
          lookedAt = at
        }),
      ),
    )
  })
  /** One look at a time; whoever waited for one that is fresh enough takes it. */
  const freshen = (millis: number) =>
    turn.withPermits(1)(Effect.suspend(() => (performance.now() - lookedAt < millis ? Effect.void : look)))
  const tell = Effect.suspend(() => {
    const news = [...unproven].filter(([destination]) => !told.has(destination) && told.size < TOLD)
    unproven.clear()
    return Effect.forEach(
      news,
      ([destination, reason]) => {
        told.add(destination)
        return Effect.logWarning("strict: where a destination leads cannot be proven, so it is sent").pipe(
          Effect.annotateLogs({ destination, reason }),
        )
      },
      { discard: true },
    )
  })
  yield* Effect.sleep(every).pipe(
    Effect.andThen(Effect.suspend(() => (open > 0 ? Effect.andThen(freshen(0), tell) : Effect.void))),
    Effect.forever,
    Effect.forkScoped,
  )

  const routeFor = (destination: string) => {
    const route = routeOf(destination)
    if (route._tag === "Unknown" && route.words !== "" && unproven.size < TOLD)
      unproven.set(destination, route.words)
    return route
  }

  return Broker.of({
    connect: (subscription) =>
      subscription !== undefined
        ? broker.connect(subscription)
        : Effect.gen(function* () {
            const connection = yield* broker.connect()
            yield* Effect.acquireRelease(
              Effect.sync(() => open++),
              () => Effect.sync(() => open--),
            )
            yield* freshen(FRESH_MILLIS)
            return { ...connection, send: strictly(connection.send, routeFor) }
          }),
  })
})

const memoised = (seen: RouteOf): RouteOf => {
  const known = new Map<string, ReturnType<RouteOf>>()
  return (destination) => {
    const found = known.get(destination)
    if (found !== undefined) return found
    const route = seen(destination)
    known.set(destination, route)
    return route
  }
}

const strictly =
  (send: BrokerConnection["send"], routeFor: RouteOf): BrokerConnection["send"] =>
  (batch, settle) => {
    const refused: Array<{ readonly index: number; readonly words: string }> = []
    const sent: number[] = []
    for (const [index, { destination }] of batch.entries()) {
      const route = routeFor(destination)
      if (route._tag === "Nowhere") refused.push({ index, words: route.words })
      else sent.push(index)
    }
    if (refused.length === 0) return send(batch, settle)
    if (sent.length > 0)
      send(
        sent.map((index) => batch[index]!),
        (index, settlement) => settle(sent[index]!, settlement),
      )
    queueMicrotask(() => {
      for (const { index, words } of refused)
        settle(index, { _tag: "Refused", scope: "destination", words } satisfies Settlement)
    })
  }
