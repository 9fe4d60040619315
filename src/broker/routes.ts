/** The port to whoever knows where destinations lead: some brokers confirm a message that they route nowhere. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type { BrokerError } from "./broker.ts"

/**
 * - `Somewhere`: what is sent there arrives in a queue.
 * - `Nowhere`: proven to arrive in none, in these words.
 * - `Unknown`: neither is proven.
 */
export type Route =
  | { readonly _tag: "Somewhere" }
  | { readonly _tag: "Nowhere"; readonly words: string }
  | { readonly _tag: "Unknown"; readonly words: string }

/** What was true of every destination at one moment. Cheap: it is asked for each message. */
export type RouteOf = (destination: string) => Route

/** Where destinations lead. Without a layer nothing is known. */
export const Routes = Context.Reference<{
  /** Looks at the broker as it is now. Fails where nothing can be known now. */
  readonly look: Effect.Effect<RouteOf, BrokerError>
}>("drizzle-outbox/Routes", {
  defaultValue: () => ({ look: Effect.succeed(() => nobodyAsked) }),
})

const nobodyAsked: Route = { _tag: "Unknown", words: "nobody was asked" }
