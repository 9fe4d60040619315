/**
 * Where destinations lead on RabbitMQ, asked of its management API: `drizzle-outbox/rabbitmq-management`.
 *
 * A look reads the exchanges, bindings and policies of one virtual host: three requests, however many destinations there
 * are. The login needs the tag "management" and a permission on the virtual host.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { BrokerError } from "../broker.ts"
import { type Route, Routes } from "../routes.ts"
import { type ManagementOptions, makeManagement } from "./management.ts"
import { reach } from "./reach.ts"
import { targetOf } from "./target.ts"
import { readTopology, type Topology } from "./topology.ts"

export type { ManagementOptions } from "./management.ts"

export interface RabbitmqRoutesOptions extends ManagementOptions {
  /** Default "/". */
  readonly virtualHost?: string
}

/** For `layerStrict`. Fails, without repeating it, for a URL that is none. */
export const layerRabbitmqRoutes = (options: RabbitmqRoutesOptions): Layer.Layer<never, BrokerError> =>
  Layer.effect(
    Routes,
    Effect.try({
      try: () => {
        const management = makeManagement(options)
        const look = Effect.map(
          readTopology(management, options.virtualHost ?? "/"),
          (topology) => (destination: string) => routeIn(topology, destination),
        )
        return { look }
      },
      catch: (error) => error as BrokerError,
    }),
  )

const somewhere: Route = { _tag: "Somewhere" }

/** Where a STOMP destination leads. */
export const routeIn = (topology: Topology, destination: string): Route => {
  const target = targetOf(destination)
  if (target === undefined)
    return { _tag: "Unknown", words: "RabbitMQ takes no such destination, or only as a reply's" }
  // A SEND to a queue makes it.
  if (target.declares) return somewhere
  const found = reach(topology, target.exchange, target.key)
  switch (found._tag) {
    case "Queues":
      return somewhere
    case "Unknown":
      return found
    case "Nowhere":
      return { _tag: "Nowhere", words: `${destination} leads nowhere: ${found.words}` }
  }
}
