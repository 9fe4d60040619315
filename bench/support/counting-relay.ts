/**
 * A relay in a process of its own that knows how many of its messages the broker has confirmed. It loads of Effect what the
 * relay's program does, so that its memory is a relay's.
 */
import { Broker, layerMemory } from "drizzle-outbox/broker"
import { layerPolling, layerPostgres, runRelay } from "drizzle-outbox/relay"
import { layerStomp } from "drizzle-outbox/stomp"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import { serve } from "./program.ts"

export interface CountingRelayConfig {
  readonly database: string
  /** URL of a STOMP broker; without one, a broker in its process that takes everything and keeps nothing. */
  readonly broker?: string
  /** Milliseconds. Default: the relay's own. */
  readonly lease?: number
}

/** Messages confirmed since it began. */
export type Confirmed = number

serve(async ({ database, broker, lease }: CountingRelayConfig) => {
  let confirmed: Confirmed = 0
  const counting = Layer.effect(
    Broker,
    Effect.map(Broker, (inner) =>
      Broker.of({
        connect: (subscription) =>
          Effect.map(inner.connect(subscription), (connection) => ({
            ...connection,
            send: (batch, settle) =>
              connection.send(batch, (index, settlement) => {
                if (settlement._tag === "Confirmed") confirmed++
                settle(index, settlement)
              }),
          })),
      }),
    ),
  ).pipe(Layer.provide(broker === undefined ? layerMemory({ sink: true }) : layerStomp({ url: broker })))
  const relay = Effect.runFork(
    runRelay(lease === undefined ? {} : { lease }).pipe(
      Effect.provide(Layer.mergeAll(layerPostgres({ url: database }), counting, layerPolling)),
      Effect.provide(Logger.layer([])),
    ),
  )
  return {
    answer: async (_: "confirmed") => confirmed,
    close: () => Effect.runPromise(Fiber.interrupt(relay)),
  }
})
