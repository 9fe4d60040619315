/** What a message says of itself on the wire. The names are an interface: consumers in any language read them. */
import type { StoredMessage } from "../store/store.ts"

/** A stored message, as far as its headers need it. */
export type HeaderSource = Pick<
  StoredMessage,
  | "position"
  | "id"
  | "event"
  | "eventId"
  | "operation"
  | "destination"
  | "version"
  | "key"
  | "headers"
  | "createdAt"
>

export interface WireHeaderOptions {
  /** Adds the headers that django-outbox-pattern reads (`dop-…`). Default true. */
  readonly django?: boolean
}

/**
 * The headers of a stored message: `outbox-message-id`, `-event`, `-event-id`, `-operation`, `-position`, `-time`,
 * `-key` and `-version` where there is one, and the stored headers. Users cannot store one of these names; a copy of a
 * message does, and so keeps the identity of what it is a copy of.
 *
 * **Details**  For django-outbox-pattern also `dop-msg-id`, `dop-msg-destination`, `dop-msg-type` (the event),
 * `dop-msg-sent-time`, and `dop-correlation-id` where there is an `outbox-correlation-id`.
 */
export const wireHeaders = (
  message: HeaderSource,
  { django = true }: WireHeaderOptions = {},
): Record<string, string> => {
  const { headers: stored, key, version } = message
  for (const _ in stored) return completed(message, django)
  const headers: Record<string, string> = {
    "outbox-message-id": message.id,
    "outbox-event": message.event,
    "outbox-event-id": message.eventId,
    "outbox-operation": message.operation,
    "outbox-position": String(message.position),
    "outbox-time": message.createdAt,
  }
  if (key !== null) headers["outbox-key"] = key
  if (version !== null) headers["outbox-version"] = version
  if (django) {
    headers["dop-msg-id"] = message.id
    headers["dop-msg-destination"] = message.destination
    headers["dop-msg-type"] = message.event
    headers["dop-msg-sent-time"] = message.createdAt
  }
  return headers
}

/** The same where some are stored, which may be an identity of its own. */
const completed = (message: HeaderSource, django: boolean): Record<string, string> => {
  const { headers: stored, key, version } = message
  const headers: Record<string, string> = { ...stored }
  headers["outbox-message-id"] ??= message.id
  headers["outbox-event"] ??= message.event
  headers["outbox-event-id"] ??= message.eventId
  headers["outbox-operation"] ??= message.operation
  headers["outbox-position"] = String(message.position)
  headers["outbox-time"] ??= message.createdAt
  if (key !== null) headers["outbox-key"] ??= key
  if (version !== null) headers["outbox-version"] ??= version
  if (django) {
    headers["dop-msg-id"] ??= headers["outbox-message-id"]
    headers["dop-msg-destination"] ??= message.destination
    headers["dop-msg-type"] ??= headers["outbox-event"]
    headers["dop-msg-sent-time"] ??= headers["outbox-time"]
    const correlation = stored["outbox-correlation-id"]
    if (correlation !== undefined) headers["dop-correlation-id"] = correlation
  }
  return headers
}
