/** What is known of a broker, from the `server` header of its CONNECTED frame. */
import type { BrokerProfile, Outgoing, RefusalScope, Subscription } from "../broker.ts"
import { activemq } from "./activemq.ts"
import { isQueue } from "./destination.ts"
import { rabbitmq } from "./rabbitmq.ts"

/** The destination and further headers of a frame. */
export interface Target {
  readonly destination: string
  readonly headers: Readonly<Record<string, string>>
}

/** How a broker is asked to delete what a subscription keeps: by UNSUBSCRIBE with these headers. */
export interface Forgetting {
  /** Subscribed to first, where UNSUBSCRIBE is only for subscribers. */
  readonly subscribe?: Target
  readonly headers: Readonly<Record<string, string>>
}

export interface StompProfile extends BrokerProfile {
  /** The header that carries a message's id in the broker's own terms. */
  readonly idHeader: string | undefined
  /** Body bytes above which some version of the broker closes the connection without a word, as configured by default. */
  readonly silentLimit: number
  /** The most messages sent as one transaction, where that is faster than a confirmation each; 1 where it is not. */
  readonly transaction: number
  /** The broker drops who is silent for so many times the interval agreed on. */
  readonly patience: number
  /** Why this message is not sent: over it the broker would close the connection without a word, or take what comes behind it. */
  readonly impossible: (
    message: Outgoing,
  ) => { readonly scope: RefusalScope; readonly words: string } | undefined
  /** What SUBSCRIBE says beyond the standard; words where the broker cannot do what is asked. */
  readonly subscribe: (subscription: Subscription) => Target | string
  /** What UNSUBSCRIBE says to delete; words where the broker cannot. */
  readonly forget: (subscription: Subscription) => Forgetting | string
}

/** Any other broker: nothing is taken for granted. */
const unknown = (server: string): StompProfile => ({
  name: "unknown",
  server,
  pipelined: false,
  elects: false,
  connections: 1,
  idHeader: undefined,
  silentLimit: Number.POSITIVE_INFINITY,
  patience: Number.POSITIVE_INFINITY,
  transaction: 1,
  impossible: () => undefined,
  subscribe: ({ destination, queue }) =>
    queue === undefined || isQueue(destination)
      ? { destination, headers: {} }
      : "no named queues are known of this broker",
  forget: () => "how this broker deletes a subscription is not known",
})

/** The profile for a `server` header, on a connection with this `client-id`; a broker that hides it is unknown. */
export const profileOf = (server: string, clientId?: string): StompProfile => {
  if (/^ActiveMQ\//i.test(server)) return activemq(server, clientId)
  if (/^RabbitMQ\b/i.test(server)) return rabbitmq(server)
  return unknown(server)
}

/** Of a message that can never pass. */
export const forbidden = (words: string) => ({ scope: "message", words }) as const
