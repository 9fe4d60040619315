/** Who a message is: its id, its key, and what ties it to others, read from its headers. */
import { createHash } from "node:crypto"
import type { Incoming } from "../broker/broker.ts"
import type { Arrival } from "../inbox/inbox.ts"
import type { Causation } from "./message.ts"
import type { ConsumerSettings, Extractor } from "./options.ts"

/**
 * The headers that name a message, first that is present: ours, .NET CAP's, django-outbox-pattern's, the CloudEvents
 * binding's, and the AMQP property that a RabbitMQ sender sets. STOMP's own `message-id` is none: brokers make a new one
 * for each delivery.
 */
export const ID_HEADERS: ReadonlyArray<string> = [
  "outbox-message-id",
  "cap-msg-id",
  "dop-msg-id",
  "cloudEvents_id",
  "amqp-message-id",
]

const CORRELATION_HEADERS = ["outbox-correlation-id", "cap-corr-id", "dop-correlation-id"]

/** Longer ids are recorded as their hash. */
const LONGEST_ID = 255

/** Longer keys are their hash, in bytes: an index of the database holds them beside the names of consumer and queue. */
const LONGEST_KEY = 1000

/** An arrival whose id is known, or (`nameless`) only the hash of its content. */
export interface Identified {
  readonly arrival: Arrival
  readonly nameless: boolean
}

/** Reads a delivery's identity. Throws what an extractor of the user's throws. */
export const identify = (incoming: Incoming, settings: ConsumerSettings): Identified => {
  const { body, destination } = incoming
  const headers = own(incoming.headers)
  const id = first(headers, ID_HEADERS) ?? extract(settings.identity, incoming)
  return {
    arrival: {
      messageId: boundedId(id) ?? contentHash(incoming),
      destination,
      key: keyOf(incoming, settings),
      headers,
      body,
    },
    nameless: id === undefined,
  }
}

/** The arrival of what cannot be read any further. */
export const anonymous = (incoming: Incoming): Arrival => ({
  messageId: boundedId(first(incoming.headers, ID_HEADERS)) ?? contentHash(incoming),
  destination: incoming.destination,
  key: null,
  headers: own(incoming.headers),
  body: incoming.body,
})

/** The headers of a delivery, which are not the message's. */
const DELIVERY = new Set(["ack", "subscription", "message-id", "content-length", "redelivered"])

const own = (headers: Readonly<Record<string, string>>): Record<string, string> => {
  const rest: Record<string, string> = {}
  for (const name in headers) {
    if (DELIVERY.has(name)) continue
    const value = headers[name] as string
    // An assignment would be one to the object's prototype.
    if (name === "__proto__")
      Object.defineProperty(rest, name, { value, enumerable: true, writable: true, configurable: true })
    else rest[name] = value
  }
  return rest
}

/** What a message hands on to those that it leads to. */
export const causationOf = ({ messageId, headers }: Arrival): Causation => ({
  correlationId: first(headers, CORRELATION_HEADERS) ?? messageId,
  causationId: messageId,
  traceparent: headers["traceparent"],
})

/** The event's name, where the sender says it. */
export const eventOf = ({ headers }: Arrival): string | undefined =>
  headers["outbox-event"] ?? headers["cap-msg-name"] ?? headers["dop-msg-type"]

const keyOf = (incoming: Incoming, settings: ConsumerSettings): string | null => {
  const key = incoming.headers["outbox-key"] ?? extract(settings.key, incoming)
  // PostgreSQL's text has no NUL; STOMP's headers can carry none either, but a function may return one.
  if (key === undefined) return null
  return Buffer.byteLength(key) > LONGEST_KEY ? `sha256:${sha256(key)}` : key.replaceAll("\0", "\\0")
}

const extract = (extractor: Extractor | undefined, { headers, body }: Incoming): string | undefined => {
  const found =
    typeof extractor === "function" ? extractor({ headers, body }) : extractor && headers[extractor]
  return found === undefined || found === null || found === "" ? undefined : String(found)
}

const first = (headers: Readonly<Record<string, string>>, names: ReadonlyArray<string>) => {
  for (const name of names) {
    const value = headers[name]
    if (value !== undefined && value !== "") return value
  }
  return undefined
}

const boundedId = (id: string | undefined): string | undefined =>
  id !== undefined && (id.length > LONGEST_ID || id.includes("\0")) ? `sha256:${sha256(id)}` : id

const contentHash = ({ destination, body }: Incoming): string =>
  `sha256:${createHash("sha256").update(destination).update("\0").update(body).digest("hex")}`

const sha256 = (text: string): string => createHash("sha256").update(text).digest("hex")
