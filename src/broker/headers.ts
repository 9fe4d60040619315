/** The headers a message carries on the wire: derived from its row and nothing else, so that the row equals the wire. */

/** A stored message, as far as its headers go. */
export interface HeaderSource {
  readonly position: number | bigint
  readonly id: string
  readonly event: string
  readonly eventId: string
  readonly operation: string
  readonly destination: string
  readonly version: string | null
  readonly key: string | null
  /** The user's headers, with the correlation, causation and trace of the write. */
  readonly headers: Readonly<Record<string, string>>
  /** The database's clock at the write, ISO-8601 UTC. */
  readonly createdAt: string
}

/**
 * The complete headers of a message. `django` adds those that django-outbox-pattern reads (its documentation, "Headers").
 */
export const wireHeaders = (
  message: HeaderSource,
  options: { readonly django: boolean },
): Record<string, string> => {
  const headers: Record<string, string> = {
    ...message.headers,
    "outbox-message-id": message.id,
    "outbox-event": message.event,
    "outbox-event-id": message.eventId,
    "outbox-operation": message.operation,
    "outbox-position": String(message.position),
    "outbox-time": message.createdAt,
  }
  if (message.key !== null) headers["outbox-key"] = message.key
  if (message.version !== null) headers["outbox-version"] = message.version
  if (options.django) {
    headers["dop-msg-id"] = message.id
    headers["dop-msg-destination"] = message.destination
    headers["dop-msg-type"] = message.event
    headers["dop-msg-sent-time"] = message.createdAt
    const correlation = message.headers["outbox-correlation-id"]
    if (correlation !== undefined) headers["dop-correlation-id"] = correlation
  }
  return headers
}
