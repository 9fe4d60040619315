/** A relay in a process of its own that knows how many of its messages the broker has confirmed. */
import { Broker, layerMemory } from "drizzle-outbox/broker"
import { layerPolling, layerPostgres, runRelay } from "drizzle-outbox/relay"
import { layerStomp } from "drizzle-outbox/stomp"
import { Effect, Fiber, Layer, Logger } from "effect"
import { serve } from "./program.ts"

export interface CountingRelayConfig {
  readonly database: string
  /** URL of a STOMP broker; without one, a broker in its process that takes everything and keeps nothing. */
  readonly broker?: string
}

/** Messages confirmed since it began. */
export type Confirmed = number

serve(async ({ database, broker }: CountingRelayConfig) => {
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
    runRelay().pipe(
      Effect.provide(Layer.mergeAll(layerPostgres({ url: database }), counting, layerPolling)),
      Effect.provide(Logger.layer([])),
    ),
  )
  return {
    answer: async (_: "confirmed") => confirmed,
    close: () => Effect.runPromise(Fiber.interrupt(relay)),
  }
})
