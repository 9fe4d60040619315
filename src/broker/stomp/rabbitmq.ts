/** RabbitMQ, with its STOMP or Web-STOMP plugin. */
import type { Outgoing } from "../broker.ts"
import { isQueue } from "./destination.ts"
import { forbidden, type StompProfile } from "./profile.ts"

/**
 * Pipelined: every ERROR that leaves a connection open says of one message that it can never pass or of a destination
 * that nothing does (`refusal.ts`); any other ends the AMQP channel behind the connection, which takes nothing after it.
 * What would be answered with a `Processing error` is not sent: the connection stays open, and takes what comes behind.
 *
 * It elects nobody by itself. A queue declared beforehand with `x-single-active-consumer` and read as `/amq/queue/NAME`
 * does, but nothing in STOMP says that it is one.
 */
export const rabbitmq = (server: string): StompProfile => ({
  name: "rabbitmq",
  server,
  pipelined: true,
  elects: false,
  // A connection, its channel and its writer are a process each, and let 400 messages go before they wait for credit (`credit_flow_default_credit`).
  connections: 2,
  idHeader: "amqp-message-id",
  // `stomp.max_frame_size`, 4 MiB, from 3.12 on: it only closes. Earlier the limit is `max_message_size`, which has words.
  silentLimit: 4 * 1024 * 1024,
  // It looks once per interval and drops who was silent at two looks in a row.
  patience: 3,
  transaction: 1,
  impossible,
  subscribe: ({ destination, queue, prefetch = 100 }) => ({
    destination,
    headers: {
      "prefetch-count": String(prefetch),
      ...(queue !== undefined && !isQueue(destination) && durable(queue)),
    },
  }),
  forget: ({ destination, queue, headers }) => {
    if (isQueue(destination))
      return "RabbitMQ deletes a queue by its own tools only: rabbitmqctl delete_queue"
    if (queue === undefined) return "only a named queue outlives its subscriber"
    return {
      // Only UNSUBSCRIBE from a topic deletes the queue, whatever else is bound to it.
      subscribe: {
        destination: destination.startsWith("/topic/") ? destination : "/topic/drizzle-outbox.forget",
        headers: { "prefetch-count": "1", ...durable(queue), ...headers },
      },
      headers: { durable: "true", "x-queue-name": queue },
    }
  },
})

const durable = (queue: string) => ({ durable: "true", "auto-delete": "false", "x-queue-name": queue })

/** Headers of SEND that 3.10.8 reads as whole numbers, whatever the destination. */
const numbers = [
  "priority",
  "timestamp",
  "x-expires",
  "x-message-ttl",
  "x-max-length",
  "x-max-length-bytes",
  "x-max-priority",
]

/** A reply-to that begins with a slash is read as a destination. */
const replyTo =
  /^$|^[^/]|^\/(queue|topic|temp-queue|amq\/queue)\/[^/]+$|^\/exchange\/[^/]+(\/[^/]*)?$|^\/reply-queue\//

const impossible = ({ destination, headers }: Outgoing) => {
  for (const name of numbers) {
    const value = headers[name]
    if (value !== undefined && !/^ *[+-]?\d+ *$/.test(value))
      return forbidden(`the header ${name} of RabbitMQ is a whole number, not "${value.slice(0, 100)}"`)
  }
  const { durable, "reply-to": reply } = headers
  if (durable !== undefined && destination.startsWith("/queue/") && !/^(true|false)$/.test(durable))
    return forbidden(`the header durable of RabbitMQ is true or false, not "${durable.slice(0, 100)}"`)
  if (reply !== undefined && !replyTo.test(reply))
    return forbidden(
      `the header reply-to of RabbitMQ is a destination, or begins with no slash, not "${reply.slice(0, 100)}"`,
    )
  return undefined
}
