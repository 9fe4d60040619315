/** ActiveMQ Classic. */
import type { Outgoing, Subscription } from "../broker.ts"
import { isQueue } from "./destination.ts"
import { escaped } from "./frame.ts"
import { forbidden, type StompProfile } from "./profile.ts"

/**
 * Not pipelined: after an ERROR about one message it goes on taking those behind it.
 *
 * A topic's named queue is a durable subscription of that name, under a client id of that name: one connection at a time.
 * Of `/topic/VirtualTopic.…` it is the queue `Consumer.NAME.VirtualTopic.…`, which instances can share; as a dot would
 * end the name there, each dot of it is written as an underscore.
 */
export const activemq = (server: string, clientId: string | undefined): StompProfile => ({
  name: "activemq",
  server,
  pipelined: false,
  elects: true,
  connections: 1,
  idHeader: undefined,
  // `wireFormat.maxFrameSize`, 100 MiB.
  silentLimit: 100 * 1024 * 1024,
  // It writes to disk once a transaction: three to five times as fast as once a message (`npm run bench -- activemq-confirm`).
  transaction: 100,
  // Seen: 2.0 to 3.0. Its `hbGracePeriodMultiplier`, 1 by default, multiplies that, and its answer to CONNECT does not tell.
  patience: 3,
  impossible,
  subscribe: (subscription) => {
    const { destination, queue, prefetch = 100, exclusive = false } = subscription
    const headers = {
      "activemq.prefetchSize": String(prefetch),
      ...(exclusive && { "activemq.exclusive": "true" }),
    }
    if (queue === undefined || isQueue(destination)) return { destination, headers }
    if (isVirtual(destination)) return { destination: virtualQueue(destination, queue), headers }
    return clientId === queue
      ? { destination, headers: { ...headers, "activemq.subscriptionName": queue } }
      : "its durable subscriptions need a connection made for them, `connect(subscription)`"
  },
  forget: ({ destination, queue }) => {
    if (isQueue(destination) || isVirtual(destination)) {
      return "ActiveMQ deletes a queue by its own tools only, or by itself where gcInactiveDestinations is set"
    }
    if (queue === undefined) return "only a named subscription outlives its subscriber"
    return clientId === queue
      ? { headers: { "activemq.subscriptionName": queue } }
      : "its durable subscriptions need a connection made for them, `connect(subscription)`"
  },
})

/** The `client-id` of a connection for this subscription, should the broker be an ActiveMQ; others do not mind. */
export const clientIdFor = ({ destination, queue }: Subscription): string | undefined =>
  isQueue(destination) || isVirtual(destination) || (queue !== undefined && /[\r\n\0]/.test(queue))
    ? undefined
    : queue

const isVirtual = (destination: string) => destination.startsWith("/topic/VirtualTopic.")

const virtualQueue = (destination: string, queue: string) =>
  `/queue/Consumer.${queue.replaceAll(".", "_")}.${destination.slice("/topic/".length)}`

const numbers = ["priority", "expires"]

/** Bytes of one header line, and headers of one frame, from which on it reads the rest of the frame as frames of their own. */
const HEADER_LIMIT = 10 * 1024
const HEADER_COUNT = 1000

/** Over each of these 5.17.2 closes the connection and says nothing, or worse. */
const impossible = ({ destination, contentType, headers }: Outgoing) => {
  if (/^(\/(queue|topic|temp-queue|temp-topic)\/)?\s*$/.test(destination)) {
    return { scope: "destination", words: `"${destination}" names no destination` } as const
  }
  let count = 10
  for (const name in headers) {
    const value = headers[name] as string
    count++
    // Inside a transaction of ours it would go unnoticed, outside it is one that does not exist.
    if (name === "transaction") return forbidden("the header transaction belongs to STOMP")
    if (numbers.includes(name) && !/^-?\d{1,18}$/.test(value))
      return forbidden(`the header ${name} of ActiveMQ is a number, not "${value.slice(0, 100)}"`)
    if (isLong(name, value))
      return forbidden(`the header ${name.slice(0, 100)} is over ${HEADER_LIMIT} bytes`)
  }
  if (count > HEADER_COUNT) return forbidden(`there are more than ${HEADER_COUNT - 10} headers`)
  if (isLong("destination", destination)) return forbidden(`the destination is over ${HEADER_LIMIT} bytes`)
  if (isLong("content-type", contentType)) return forbidden(`the content type is over ${HEADER_LIMIT} bytes`)
  return undefined
}

const isLong = (name: string, value: string) =>
  // No character takes more than four bytes on the wire.
  4 * (name.length + value.length) >= HEADER_LIMIT &&
  Buffer.byteLength(escaped(`${name}:${value}`)) >= HEADER_LIMIT
