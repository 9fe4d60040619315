/** A pending message's row as the driver gives it to a relay: as little as says everything, decoded once. */
import type { StoredMessage } from "./store.ts"

/**
 * The columns of a message for a SELECT from, or a RETURNING of, `table`.
 *
 * **Details**  Everything as text that needs no parse where nothing is said: headers are `{}` for most, and a date would
 * be parsed only to be written again. Of a row that is not `taken` all is null.
 */
export const messageColumns = (table: string, taken = "true"): string =>
  columns.map(([name, value]) => `CASE WHEN ${taken} THEN ${value(table)} END AS ${name}`).join(", ")

const plain = (name: string): readonly [string, (table: string) => string] => [
  name,
  (table) => `${table}.${name}`,
]

const columns = [
  ...["lane", "id", "event", "event_id", "operation", "destination", "version", "key"].map(plain),
  ["headers", (table: string) => `${table}.headers::text`],
  ...["content_type", "body", "body_bytes"].map(plain),
  ["created_at", (table: string) => `${table}.created_at::text`],
  ["attempts", (table: string) => `nullif(${table}.attempts, 0)`],
  ["expired", (table: string) => `nullif(${table}.expires_at <= now(), false)`],
] as const satisfies ReadonlyArray<readonly [string, (table: string) => string]>

export interface MessageRow {
  readonly position: string
  readonly lane: number
  readonly id: string
  readonly event: string
  readonly event_id: string
  readonly operation: string
  readonly destination: string
  readonly version: string | null
  readonly key: string | null
  readonly headers: string
  readonly content_type: string
  readonly body: string | null
  readonly body_bytes: Uint8Array | null
  readonly created_at: string
  /** Null for 0. */
  readonly attempts: number | null
  /** Null for false. */
  readonly expired: true | null
}

const noHeaders: Readonly<Record<string, string>> = Object.freeze({})

/**
 * Makes messages of rows. What a message has in common with the one before it is kept once: a window full of messages
 * holds one text of their event, not a thousand.
 */
export const messageReader = (): ((row: MessageRow) => StoredMessage) => {
  let [event, operation, destination, contentType, version] = ["", "", "", "", "" as string | null]
  return (row) => {
    if (row.event !== event) event = row.event
    if (row.operation !== operation) operation = row.operation
    if (row.destination !== destination) destination = row.destination
    if (row.content_type !== contentType) contentType = row.content_type
    if (row.version !== version) version = row.version
    return {
      position: Number(row.position),
      lane: row.lane,
      id: row.id,
      event,
      eventId: row.event_id,
      operation,
      destination,
      version,
      key: row.key,
      headers: row.headers === "{}" ? noHeaders : texts(JSON.parse(row.headers)),
      contentType,
      body: row.body ?? row.body_bytes ?? "",
      createdAt: toIso(row.created_at),
      attempts: row.attempts ?? 0,
      expired: row.expired === true,
    }
  }
}

/** SQL can write any JSON as a header's value: what is no text travels as its JSON. */
const texts = (headers: Readonly<Record<string, unknown>>): Readonly<Record<string, string>> => {
  for (const name in headers)
    if (typeof headers[name] !== "string")
      return Object.fromEntries(
        Object.entries(headers).map(([key, value]) => [
          key,
          typeof value === "string" ? value : JSON.stringify(value),
        ]),
      )
  return headers as Readonly<Record<string, string>>
}

/** `2026-01-31 23:59:59.1234+00` as ISO-8601 with milliseconds; the session speaks ISO and UTC (`connect.ts`). */
const toIso = (text: string): string => {
  if (text.length < 22 || text[4] !== "-" || !text.endsWith("+00")) return new Date(text).toISOString()
  const fraction = text.length > 23 ? text.slice(19, -3).slice(0, 4).padEnd(4, "0") : ".000"
  return `${text.slice(0, 10)}T${text.slice(11, 19)}${fraction}Z`
}
