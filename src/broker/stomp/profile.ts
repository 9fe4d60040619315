/** What is known of a broker, from the `server` header of its CONNECTED frame. */
import type { BrokerProfile, Subscription } from "../broker.ts"

export interface StompProfile extends BrokerProfile {
  /** The header that carries a message's id in the broker's own terms. */
  readonly idHeader: string | undefined
  /** Body bytes above which some version of the broker closes the connection without a word, as configured by default. */
  readonly silentLimit: number
  /** SUBSCRIBE headers beyond the standard's; undefined where the broker cannot do what is asked. */
  readonly subscribeHeaders: (subscription: Subscription) => Readonly<Record<string, string>> | undefined
}

const isQueue = (destination: string) =>
  destination.startsWith("/queue/") || destination.startsWith("/amq/queue/")

/**
 * RabbitMQ. Pipelined: every ERROR that leaves a connection open says of one message that it can never pass or of a
 * destination that nothing does (`refusal.ts`); any other ends the AMQP channel behind the connection, which takes
 * nothing after it.
 */
const rabbitmq = (server: string): StompProfile => ({
  name: "rabbitmq",
  server,
  pipelined: true,
  idHeader: "amqp-message-id",
  // `stomp.max_frame_size`, 4 MiB, from 3.12 on: it only closes. Earlier the limit is `max_message_size`, which has words.
  silentLimit: 4 * 1024 * 1024,
  subscribeHeaders: ({ destination, queue, prefetch = 100 }) => ({
    "prefetch-count": String(prefetch),
    ...(queue !== undefined &&
      !isQueue(destination) && { durable: "true", "auto-delete": "false", "x-queue-name": queue }),
  }),
})

/** Any other broker: nothing is taken for granted. */
const unknown = (server: string): StompProfile => ({
  name: "unknown",
  server,
  pipelined: false,
  idHeader: undefined,
  silentLimit: Number.POSITIVE_INFINITY,
  subscribeHeaders: ({ destination, queue }) =>
    queue === undefined || isQueue(destination) ? {} : undefined,
})

/** The profile for a `server` header; a broker that hides it is unknown. */
export const profileOf = (server: string): StompProfile =>
  /^RabbitMQ\b/i.test(server) ? rabbitmq(server) : unknown(server)
