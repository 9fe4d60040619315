/** What has been published, as a consumer would read it. */
import type { Outgoing } from "../broker/broker.ts"
import { decoder } from "../consumer/decode.ts"
import type { EventPublication, OutboxEvent } from "../outbox/event.ts"

/** A message that left the outbox. */
export interface PublishedMessage<Body = unknown> {
  readonly id: string
  readonly event: string
  /** The same for all publications of one row's event. */
  readonly eventId: string
  readonly operation: string
  readonly destination: string
  /** The ordering scope; null has no order. */
  readonly key: string | null
  /** All of them, as they are on the wire. */
  readonly headers: Readonly<Record<string, string>>
  /** Decoded by its content type; of an event by its schema. */
  readonly body: Body
}

/** Decodes a message; `event` gives the schemas. */
export const publishedOf = async (outgoing: Outgoing, event?: OutboxEvent): Promise<PublishedMessage> => {
  const { id, destination, headers } = outgoing
  return {
    id,
    event: headers["outbox-event"] ?? "",
    eventId: headers["outbox-event-id"] ?? "",
    operation: headers["outbox-operation"] ?? "",
    destination,
    key: headers["outbox-key"] ?? null,
    headers: wireHeadersOf(outgoing),
    body: await decoded(outgoing, event),
  }
}

/** Its headers as a consumer's connection shows them; a foreign message may say no content type. */
export const wireHeadersOf = ({
  destination,
  contentType,
  headers,
}: Outgoing): Readonly<Record<string, string>> => ({
  ...headers,
  destination,
  ...(contentType !== "" && { "content-type": contentType }),
})

export const bytesOf = (body: string | Uint8Array): Uint8Array =>
  typeof body === "string" ? new TextEncoder().encode(body) : body

const decoded = async (outgoing: Outgoing, event: OutboxEvent | undefined): Promise<unknown> => {
  const bytes = bytesOf(outgoing.body)
  if (event !== undefined)
    return decoder(publicationFor(event, outgoing.destination)?.schema)(bytes, wireHeadersOf(outgoing))
  try {
    return await decoder(undefined)(bytes, wireHeadersOf(outgoing))
  } catch {
    // The copy of a dead message may be what nobody can read.
    return bytes
  }
}

/** What an event says of its messages for one of its destinations. */
export const publicationFor = (
  { publications }: OutboxEvent,
  destination: string,
): EventPublication | undefined =>
  publications.find(({ destinations }) => destinations?.includes(destination)) ?? publications[0]
