/** The low level: a delivery as it came, whose outcome its handler returns. For callbacks that open their own transaction. */
import type { Arrival, Claim } from "../inbox/inbox.ts"
import type { AnyTransaction } from "../outbox/append.ts"

/** What becomes of a delivery. Only `Delivery` makes one. */
export type Settled = { readonly _tag: "Acknowledged" } | { readonly _tag: "Dead"; readonly reason: string }

/** A delivery as it came. */
export interface Delivery {
  readonly body: Uint8Array
  /** The body as UTF-8 text. */
  readonly text: () => string
  readonly headers: Readonly<Record<string, string>>
  readonly messageId: string
  readonly destination: string
  readonly key: string | null
  /** 1 on the first try. */
  readonly attempt: number
  /** Aborted when the handler's time is over. */
  readonly signal: AbortSignal
  /**
   * Records the message as handled in your transaction. False when it was handled before: then write nothing and
   * return `ack()`.
   */
  readonly save: (tx: AnyTransaction) => Promise<boolean>
  /** The outcome "done". Return it. */
  readonly ack: () => Settled
  /** The outcome "dead", with its reason. Return it. */
  readonly nack: (reason?: string) => Settled
}

/** A delivery for its handler. `claim` records it in a transaction. */
export const makeDelivery = (
  arrival: Arrival,
  attempt: number,
  signal: AbortSignal,
  claim: (tx: AnyTransaction) => Promise<Claim>,
): Delivery => ({
  body: arrival.body,
  text: () => new TextDecoder().decode(arrival.body),
  headers: arrival.headers,
  messageId: arrival.messageId,
  destination: arrival.destination,
  key: arrival.key,
  attempt,
  signal,
  save: async (tx) => (await claim(tx)) === "fresh",
  ack: () => ({ _tag: "Acknowledged" }),
  nack: (reason = "refused by its handler") => ({ _tag: "Dead", reason }),
})

/** The outcome that a handler returned, if it is one. */
export const settledOf = (returned: unknown): Settled | undefined => {
  if (typeof returned !== "object" || returned === null || !("_tag" in returned)) return undefined
  return returned._tag === "Acknowledged" || returned._tag === "Dead" ? (returned as Settled) : undefined
}
