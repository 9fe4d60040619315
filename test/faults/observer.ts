/** Somebody else who listens: a subscriber with a queue of its own and a client that is not ours. What it sees has arrived. */
import { type RawClient, rawStomp } from "../support/stomp-client.ts"
import { monotonic, sleep } from "./clock.ts"
import type { OrderBody } from "./orders.ts"

export interface Arrival {
  readonly id: string
  readonly key: string | undefined
  readonly ref: string
  readonly at: number
  /** The broker had handed it out before: no second message. */
  readonly redelivered: boolean
}

export interface Observer {
  readonly arrivals: ReadonlyArray<Arrival>
  readonly close: () => void
}

/** Listens, and after each lost connection again. Resolves when the subscription exists. */
export const observe = async (
  url: string,
  destination: string,
  headers: Readonly<Record<string, string>>,
): Promise<Observer> => {
  const arrivals: Arrival[] = []
  /** ActiveMQ's own ids: after a crash it does not know what it has handed out. (RabbitMQ's are new each time.) */
  const known = new Set<string>()
  let closed = false
  let client: RawClient | undefined
  const listen = async () => {
    client = await rawStomp(url)
    if (closed) return client.close()
    await client.subscribe(
      destination,
      (frame, ack) => {
        const own = String(frame.headers["message-id"])
        arrivals.push({
          id: String(frame.headers["outbox-message-id"]),
          key: frame.headers["outbox-key"],
          ref: refOf(frame.body),
          at: monotonic(),
          redelivered: frame.headers["redelivered"] === "true" || known.has(own),
        })
        known.add(own)
        ack()
      },
      headers,
    )
  }
  await listen()
  const stay = async () => {
    while (!closed) {
      await client?.closed
      await sleep(50)
      // A broker that is away.
      if (!closed) await listen().catch(() => {})
    }
  }
  void stay()
  return {
    arrivals,
    close: () => {
      closed = true
      client?.close()
    },
  }
}

const refOf = (body: Buffer): string => {
  try {
    return (JSON.parse(body.toString()) as OrderBody).ref
  } catch {
    return ""
  }
}
