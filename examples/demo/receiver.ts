/** The other side of the broker: takes what arrives, once per message id. */
import { Broker } from "drizzle-outbox/broker"
import { Effect } from "effect"

export interface Receiver {
  /** The broker's words about itself. */
  readonly broker: string
  /** Message ids, each with the order that it tells of. */
  readonly received: ReadonlyMap<string, number>
  readonly repeated: () => number
}

/** Subscribes for the life of the scope; `show` sees every first arrival. */
export const receive = Effect.fnUntraced(function* (
  destination: string,
  show: (arrival: number, body: string) => void,
) {
  const broker = yield* Broker
  const connection = yield* broker.connect()
  const received = new Map<string, number>()
  let repeats = 0
  yield* connection.subscribe({ destination }, ({ headers, body, ack }) => {
    const id = headers["outbox-message-id"] ?? ""
    const text = Buffer.from(body).toString()
    if (received.has(id)) repeats++
    else {
      received.set(id, (JSON.parse(text) as { order_id: number }).order_id)
      show(received.size, text)
    }
    ack()
  })
  const receiver: Receiver = { broker: connection.profile.server, received, repeated: () => repeats }
  return receiver
})
