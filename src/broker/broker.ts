/**
 * The port to a message broker: a connection that sends messages whose outcomes arrive one by one, and receives.
 *
 * A layer states facts only (confirmed, refused with the broker's words, lost with its connection); what a fact
 * means for a message is decided in `relay/outcome.ts`.
 */
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import type * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"

/** A message as it goes to the broker. `headers` are complete and unescaped; layers add only what their protocol needs. */
export interface Outgoing {
  readonly id: string
  readonly destination: string
  readonly headers: Readonly<Record<string, string>>
  readonly contentType: string
  readonly body: string | Uint8Array
}

/**
 * What a refusal is about:
 * - `message`: this message can never pass (frame too large, header forbidden);
 * - `destination`: nothing for this destination passes now (not found, no access, unknown prefix);
 * - `attempt`: the broker refused this message this time.
 */
export type RefusalScope = "message" | "destination" | "attempt"

/**
 * The outcome of one send. Every message given to `send` gets exactly one.
 * - `Confirmed`: the broker took responsibility for it.
 * - `Refused`: it did not, in these words.
 * - `Lost`: the connection ended first, so nobody knows.
 */
export type Settlement =
  | { readonly _tag: "Confirmed" }
  | { readonly _tag: "Refused"; readonly scope: RefusalScope; readonly words: string }
  | { readonly _tag: "Lost" }

/** Why a connection ended: `outage` (socket closed, heart-beats missed, broker stopping), `error` (the broker closed it over something it was sent, without naming what), `closed` (we did). */
export interface ConnectionEnd {
  readonly reason: "outage" | "error" | "closed"
  readonly words: string
  /** Where silence was the end: how long nothing had been heard, which was twice what the broker had promised. */
  readonly silentMillis?: number
}

/** What a broker guarantees on one connection. */
export interface BrokerProfile {
  /** "rabbitmq", "memory", … */
  readonly name: string
  /** The server's own words about itself, for logs. */
  readonly server: string
  /** True where, after a refusal that counts as an attempt, nothing later on that connection is accepted: several messages of a key may be in flight. */
  readonly pipelined: boolean
  /** True where `exclusive` is honoured: the broker itself lets the next subscriber begin when the first has gone, with what that one left unsettled first. */
  readonly elects: boolean
  /** Connections over which it takes messages fastest: a relay opens so many, and its window is theirs together. */
  readonly connections: number
}

/** A subscription as the weakest broker understands it. */
export interface Subscription {
  readonly destination: string
  /** A durable queue of this name holds what arrives while nobody listens; without one the subscription lives with its connection. */
  readonly queue?: string
  /** Deliveries handed out before the first is settled. Default 100. */
  readonly prefetch?: number
  /** One subscription at a time gets deliveries, the others stand by. Only where the profile `elects`; elsewhere it changes nothing. Default false. */
  readonly exclusive?: boolean
  /** Further headers of the broker's own. */
  readonly headers?: Readonly<Record<string, string>>
}

/** A message as received. `ack` and `nack` belong to its connection: once that has ended they do nothing. */
export interface Incoming {
  readonly destination: string
  readonly headers: Readonly<Record<string, string>>
  readonly body: Uint8Array
  /** The broker has handed it out before. False proves nothing: not every broker keeps count. */
  readonly redelivered: boolean
  readonly ack: () => void
  readonly nack: () => void
}

/** One live connection. It ends once; `ended` tells why. */
export interface BrokerConnection {
  readonly profile: BrokerProfile
  /**
   * Hands a batch to the connection, in order. `settle` is called once per message, with its index in the batch, in any
   * order and never before `send` returns. After the end every message is `Lost`.
   */
  readonly send: (
    batch: ReadonlyArray<Outgoing>,
    settle: (index: number, settlement: Settlement) => void,
  ) => void
  /** Delivers until the scope closes. Closing it never deletes a durable queue. */
  readonly subscribe: (
    subscription: Subscription,
    deliver: (message: Incoming) => void,
  ) => Effect.Effect<void, BrokerError, Scope.Scope>
  /**
   * Deletes what a subscription of this destination and queue keeps with the broker while nobody listens, messages
   * included. Fails where the broker cannot, or where somebody is subscribed.
   */
  readonly forget: (subscription: Subscription) => Effect.Effect<void, BrokerError>
  /**
   * Milliseconds after the last sign of life within which the broker has dropped this connection, and hands what it left
   * unsettled to others. Infinity where nothing bounds it.
   */
  readonly lingerMillis: number
  /** Bytes accepted by `send` that have not left the process yet. */
  readonly buffered: () => number
  /** Resolves when the connection has ended, after every unsettled message was settled as `Lost`. */
  readonly ended: Effect.Effect<ConnectionEnd>
  /** Ends the connection now and flushes nothing: what still waits in the process is never sent. */
  readonly destroy: () => void
}

/** `unreachable`: no host answered; `refused`: the broker rejected the login, virtual host or protocol; `timeout`: no answer in time; `rejected`: a direct publish was not confirmed; `subscription`: a subscription was rejected; `taken`: another connection has the one subscription there can be, so stand by and try again. */
export class BrokerError extends Data.TaggedError("BrokerError")<{
  readonly reason: "unreachable" | "refused" | "timeout" | "rejected" | "subscription" | "taken"
  readonly message: string
  readonly cause?: unknown
}> {
  /** Whether the same call can succeed later without anybody changing anything. */
  get isRetryable(): boolean {
    return this.reason === "unreachable" || this.reason === "timeout" || this.reason === "taken"
  }
}

/** A message broker. */
export class Broker extends Context.Service<
  Broker,
  {
    /**
     * Opens a connection that closes politely (DISCONNECT, bounded) with its scope. One call tries each configured host
     * once. `subscription`: what it is for, as some brokers want a durable subscriber's name in the handshake; on such a
     * connection nothing else is subscribed to.
     */
    readonly connect: (
      subscription?: Subscription,
    ) => Effect.Effect<BrokerConnection, BrokerError, Scope.Scope>
  }
>()("drizzle-outbox/Broker") {}
