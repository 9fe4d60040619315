/** Messages that come from elsewhere. */
import { randomUUID } from "node:crypto"
import * as Schema from "effect/Schema"
import type { Outgoing } from "../broker/broker.ts"
import type { Source } from "../consumer/consume.ts"
import { isJson } from "../consumer/decode.ts"
import { ID_HEADERS } from "../consumer/identity.ts"
import type { BodySchema } from "../outbox/body.ts"
import { publicationFor } from "./published.ts"

export interface DeliverOptions {
  /** Default: a new one, unless `headers` carry one. Null for a message without any. With the id of another one it is a duplicate. */
  readonly id?: string | null
  /** The ordering scope. Default: none. */
  readonly key?: string
  /** As they are on the wire. */
  readonly headers?: Readonly<Record<string, string>>
}

/** A message that no outbox of this database has written. */
export const foreign = (to: Source<unknown>, body: unknown, options: DeliverOptions): Outgoing => {
  const destination = destinationOf(to)
  const { id, key, headers: given = {} } = options
  const named = ID_HEADERS.some((name) => given[name] !== undefined)
  const headers: Record<string, string> = { ...given }
  const own = id === undefined && !named ? randomUUID() : id
  if (own !== undefined && own !== null) headers["outbox-message-id"] = own
  if (key !== undefined) headers["outbox-key"] = key
  if (typeof to === "object") headers["outbox-event"] ??= to.name
  const event = typeof to === "object" ? publicationFor(to, destination) : undefined
  const isText = event === undefined || !isJson(event.contentType)
  const raw = body instanceof Uint8Array || (typeof body === "string" && isText)
  const { "content-type": contentType = event?.contentType ?? (raw ? "" : "application/json"), ...rest } =
    headers
  return {
    id: headers["outbox-message-id"] ?? "",
    destination,
    headers: rest,
    contentType,
    body: raw ? body : JSON.stringify(encoded(event?.schema, body)),
  }
}

/** The one destination that a source means. */
export const destinationOf = (to: Source<unknown>): string => {
  if (typeof to === "string") return to
  const [only, ...others] = to.destinations
  if (only === undefined || others.length > 0)
    throw new TypeError(`event "${to.name}" does not have one destination: give deliver() the destination`)
  return only
}

/** An Effect Schema's bodies travel in its encoded form. */
const encoded = (schema: BodySchema | undefined, body: unknown): unknown =>
  Schema.isSchema(schema)
    ? Schema.encodeUnknownSync(Schema.toCodecJson(schema as Schema.Codec<unknown>))(body)
    : body
