/** The copy of a dead message for a broker destination: the same id and body, and why it died in headers. */
import type { Arrival } from "../inbox/inbox.ts"
import type { Draft } from "../outbox/append.ts"
import { reservedHeaders } from "../outbox/headers.ts"
import type { ConsumerSettings } from "./options.ts"

/** Longer reasons are cut: brokers limit headers. */
const LONGEST_REASON = 1000

/** What brokers act on, and would make of the copy what was meant for the message: it would expire, come late, or be refused. */
const ACTED_ON = /^(expires|expiration|user-id|cc|bcc|x-delay|amq_scheduled_.*|scheduledjobid)$/

/**
 * The message that tells of a death. Its headers are those of the dead message, and `outbox-dead-reason`,
 * `outbox-dead-attempts`, `outbox-dead-consumer`, `outbox-dead-queue` and `outbox-dead-destination` (where it came from).
 */
export const deadLetterOf = (
  arrival: Arrival,
  settings: ConsumerSettings,
  destination: string,
  attempts: number,
  error: string,
): Draft => {
  // Without a prototype "__proto__" is a name like any other.
  const headers: Record<string, string> = Object.create(null)
  for (const [name, value] of Object.entries(arrival.headers)) {
    const lower = name.toLowerCase()
    if (ACTED_ON.test(lower)) continue
    if (lower !== "outbox-position" && (lower === "traceparent" || !reservedHeaders.has(lower))) {
      headers[name] = value
    }
  }
  headers["outbox-message-id"] = arrival.messageId
  headers["outbox-dead-reason"] = oneLine(error)
  headers["outbox-dead-attempts"] = String(attempts)
  headers["outbox-dead-consumer"] = settings.consumer
  headers["outbox-dead-queue"] = settings.queue
  headers["outbox-dead-destination"] = arrival.destination
  return {
    group: 0,
    event: arrival.headers["outbox-event"] ?? "dead-letter",
    operation: "emit",
    destination,
    version: null,
    key: arrival.key,
    headers: JSON.stringify(headers),
    contentType: arrival.headers["content-type"] ?? "application/octet-stream",
    body: arrival.body,
    due: null,
    timeToLive: null,
  }
}

const oneLine = (error: string): string =>
  [...error.replaceAll("\0", "").replaceAll(/\s*[\r\n]+\s*/g, " ")].slice(0, LONGEST_REASON).join("")
