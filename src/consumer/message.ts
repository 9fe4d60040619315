/** What a handler is given. */
import type { AnyTransaction } from "../outbox/append.ts"

/** A message as a handler reads it. */
export interface Message<Body = unknown> {
  /** Decoded. */
  readonly body: Body
  /** The same for every delivery of the message: an idempotency key for whatever the handler does outside `tx`. */
  readonly id: string
  /** The event's name, where the sender says it. */
  readonly event: string | undefined
  /** The same for all publications of one row's event. */
  readonly eventId: string | undefined
  /** insert, update, delete, upsert or emit, where the sender says it. */
  readonly operation: string | undefined
  readonly destination: string
  /** The ordering scope; null has no order. One longer than 1000 bytes is given as its hash. */
  readonly key: string | null
  readonly headers: Readonly<Record<string, string>>
  /** 1 on the first try. */
  readonly attempt: number
  /** What ties further messages to this one: options for `withOutbox` and `emit`. With a single message they are carried on by themselves. */
  readonly cause: Causation
}

/** The ids that a message hands on. */
export interface Causation {
  readonly correlationId: string
  readonly causationId: string
  readonly traceparent: string | undefined
}

/** Where a handler works. */
export interface Work<Tx = AnyTransaction> {
  /** The transaction that the message is recorded in. Refuses every statement once the handler's time is over. */
  readonly tx: Tx
  /** Aborted when the handler's time is over: at its time-out, and at the end of a consumer's drain. */
  readonly signal: AbortSignal
}

/** What the handler of single messages is given. */
export interface Handling<Body = unknown, Tx = AnyTransaction> extends Message<Body>, Work<Tx> {}
