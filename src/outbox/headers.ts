/** Texts that travel in a message's headers, and the names that users cannot set. */
import type * as Duration from "effect/Duration"

/** What is wrong with a text that must fit into one header, or undefined. */
export const headerFault = (text: string): string | undefined =>
  /[\r\n\0]/.test(text)
    ? "contains CR, LF or NUL"
    : /\p{Surrogate}/u.test(text)
      ? "contains a lone surrogate"
      : undefined

/**
 * Names that the message's own identity and the brokers' protocols use. Compared without regard to case; everything
 * that begins with `outbox-` or `dop-` is reserved too.
 */
export const reservedHeaders: ReadonlySet<string> = new Set([
  "_amq_dupl_id",
  "ack",
  "amqp-message-id",
  "content-length",
  "content-type",
  "destination",
  "message-id",
  "persistent",
  "receipt",
  "receipt-id",
  "subscription",
  "traceparent",
  "transaction",
])

/** What is wrong with a user's headers, or undefined. */
export const headersFault = (headers: Readonly<Record<string, string>>): string | undefined => {
  for (const [name, value] of Object.entries(headers)) {
    const lower = name.toLowerCase()
    if (name === "") return "a header's name is empty"
    if (reservedHeaders.has(lower) || lower.startsWith("outbox-") || lower.startsWith("dop-"))
      return `the header name ${JSON.stringify(name)} is reserved`
    if (typeof value !== "string") return `the value of header ${JSON.stringify(name)} is no string`
    const fault = headerFault(name) ?? headerFault(value)
    if (fault !== undefined) return `header ${JSON.stringify(name)} ${fault}`
  }
  return undefined
}

/** What one call may add to its messages. */
export interface WriteOptions {
  /** The conversation these messages belong to; sent as `outbox-correlation-id`. */
  readonly correlationId?: string | undefined
  /** The message that led to these; sent as `outbox-causation-id`. */
  readonly causationId?: string | undefined
  /** W3C trace context; sent as `traceparent`. */
  readonly traceparent?: string | undefined
  /** Further headers; they win over the event's. */
  readonly headers?: Readonly<Record<string, string>>
  /** When they may leave, instead of what the event says. */
  readonly availableAt?: Date
  /** How long after the write they may leave, instead of what the event says. */
  readonly delay?: Duration.Input
  /** How long after they may leave they are worth sending, instead of what the event says. */
  readonly timeToLive?: Duration.Input
}

/**
 * The headers stored with a message: the event's, the call's, and the ids of `options` under their names on the wire.
 * Returns a sentence when one cannot be sent.
 */
export const storedHeaders = (
  event: Readonly<Record<string, string>> | undefined,
  options: WriteOptions,
): Record<string, string> | string => {
  const fault = (event && headersFault(event)) ?? (options.headers && headersFault(options.headers))
  if (fault !== undefined) return fault
  // Without a prototype "__proto__" is a name like any other.
  const stored: Record<string, string> = Object.assign(Object.create(null), event, options.headers)
  for (const [name, value] of [
    ["outbox-correlation-id", options.correlationId],
    ["outbox-causation-id", options.causationId],
    ["traceparent", options.traceparent],
  ] as const) {
    if (value === undefined) continue
    const wrong = typeof value === "string" ? headerFault(value) : "is no string"
    if (wrong !== undefined) return `${name} ${wrong}`
    stored[name] = value
  }
  return stored
}
