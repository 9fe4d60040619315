/**
 * The port to a consumer's inbox: which messages it has handled, what waits there for its retry, what is dead, and
 * which instances consume. It sees ids, keys, headers and bytes; policy lives above it, in `consumer/`.
 */
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import type * as Effect from "effect/Effect"
import type { AnyTransaction, Draft } from "../outbox/append.ts"
import type { StoreError } from "../store/error.ts"

/** A consumer, whose name is the dedup scope, and the queue it reads. */
export interface InboxScope {
  readonly consumer: string
  readonly queue: string
  /** False where keys have no order: then nothing waits for a key's lock. Default true. */
  readonly ordered?: boolean
}

/** A message as it arrived. */
export interface Arrival {
  readonly messageId: string
  readonly destination: string
  /** The ordering scope; null has no order. */
  readonly key: string | null
  readonly headers: Readonly<Record<string, string>>
  readonly body: Uint8Array
}

/**
 * What a claim found:
 * - `fresh`: recorded as handled by this transaction; run the handler in it;
 * - `settled`: handled, parked or dead before, perhaps by a twin that was just waited for;
 * - `behind`: its key has parked messages. Nothing is recorded.
 */
export type Claim = "fresh" | "settled" | "behind"

/** A parked message. */
export interface Parked {
  readonly arrival: Arrival
  /** Failed tries so far. */
  readonly attempts: number
  /** Starts recorded since the last that ended. */
  readonly started: number
}

export interface Due {
  /** In the order in which they are due. */
  readonly parked: ReadonlyArray<Parked>
  /** Milliseconds until the first that is not among them is due, 0 when it is; undefined without one. */
  readonly nextMillis: number | undefined
}

/** How a message is parked. */
export interface Parking {
  readonly attempts: number
  /** Kept as its last error; null leaves none. */
  readonly error: string | null
  /** Due after so many milliseconds; null: behind what is parked of its key. */
  readonly retryInMillis: number | null
}

/** One instance of a consumer. */
export interface Member extends InboxScope {
  /** A UUID of its own. */
  readonly id: string
  /** What operators call it. */
  readonly name: string
}

export interface Renewal {
  /** How long it counts as alive, and holds the subscription, without another renewal. */
  readonly leaseMillis: number
  /** What operators see of it, as JSON text. */
  readonly state: string
  /** Take the subscription if nobody holds it, or keep it. */
  readonly hold: boolean
}

/** The work of a transaction failed and it was rolled back, while the database itself is well. */
export class RolledBack extends Data.TaggedError("RolledBack")<{
  readonly cause: unknown
  /** The inbox's doing, not the work's: it is to be tried again at once. */
  readonly again?: boolean
}> {}

export interface TransactOptions {
  /** No single statement in it runs longer; nor does it lie idle for much longer than this. */
  readonly statementMillis: number
  /** Claims these arrivals first, for the price of no round trip where the driver allows it. */
  readonly claim?: {
    readonly scope: InboxScope
    readonly arrivals: ReadonlyArray<Arrival>
    readonly ordered: boolean
  }
  /**
   * Called when the body has succeeded, before its commit is sent. A transaction with a claim of one that begins within
   * this call may begin in the same write, on the same connection.
   */
  readonly onCommit?: () => void
}

/** The inbox of any number of consumers. Time is the store's clock. */
export class Inbox extends Context.Service<
  Inbox,
  {
    /** Checks that the tables are those this program was built for. */
    readonly open: Effect.Effect<void, StoreError>
    /**
     * Runs `body` in a transaction and commits it if it resolves. The moment it settles, or this Effect is interrupted,
     * `tx` and its savepoints refuse further statements with `TransactionEnded`; a rollback is through before the failure is seen.
     * Fails with `RolledBack` when `body` rejected, when it caught a failed statement that leaves nothing to commit, or
     * when the commit was refused; with `StoreError` when the database went away, and then nobody knows whether it committed.
     */
    readonly transact: <A>(
      body: (tx: AnyTransaction, claims: ReadonlyArray<Claim>) => Promise<A>,
      options: TransactOptions,
    ) => Effect.Effect<A, StoreError | RolledBack>
    /**
     * Claims arrivals for the handler, in one statement: takes the lock of each one's key until the transaction ends
     * (with `ordered`), looks whether its key has parked messages, and records it. A twin that is being handled
     * elsewhere is waited for.
     */
    readonly claim: (
      tx: AnyTransaction,
      scope: InboxScope,
      arrivals: ReadonlyArray<Arrival>,
      ordered: boolean,
    ) => Promise<ReadonlyArray<Claim>>
    /** What a claim would find now, without recording anything or waiting for anybody. */
    readonly look: (scope: InboxScope, arrival: Arrival, ordered: boolean) => Effect.Effect<Claim, StoreError>
    /** Claims a parked message: records it as handled and makes the next of its key due. False when it is parked no more, or is being retried elsewhere. */
    readonly resume: (tx: AnyTransaction, scope: InboxScope, messageId: string) => Promise<boolean>
    /** Parks an arrival, or parks what is parked anew; recorded starts have ended in order then. Changes nothing of what is handled or dead. */
    readonly park: (
      tx: AnyTransaction,
      scope: InboxScope,
      arrival: Arrival,
      parking: Parking,
    ) => Promise<void>
    /** Marks an arrival, new, started or parked, as dead and makes the next of its key due. False when it was handled or dead already. */
    readonly bury: (
      tx: AnyTransaction,
      scope: InboxScope,
      arrival: Arrival,
      death: { readonly attempts: number; readonly error: string },
    ) => Promise<boolean>
    /** Writes a message to the outbox beside the inbox, in the same transaction. */
    readonly emit: (tx: AnyTransaction, draft: Draft) => Promise<void>
    /**
     * Records, in a commit of its own, that the handler is about to be run, and gives how often that was recorded; an
     * arrival that is handled or dead gives 0. So does one of which not exactly `before` starts were recorded, where that
     * is given, and a parked one that is being resumed: somebody else is at it, and it is left as it is. With
     * `keepMillis` a parked one is not due again for so long: its handler holds no transaction that would tell others.
     */
    readonly start: (
      scope: InboxScope,
      arrival: Arrival,
      before: number | undefined,
      keepMillis?: number,
    ) => Effect.Effect<number, StoreError>
    /** Parked messages that are due; with `soonest`, the one that is due next whether or not it is due yet. */
    readonly due: (scope: InboxScope, limit: number, soonest: boolean) => Effect.Effect<Due, StoreError>
    /**
     * Registers an instance. True when another one is registered, or was and never left: what is delivered first may
     * have taken that one down. `ordered: false` makes everything that waits behind others due.
     */
    readonly join: (
      member: Member,
      leaseMillis: number,
      ordered: boolean,
    ) => Effect.Effect<boolean, StoreError>
    /** Renews an instance, and registers it again if it was forgotten. True when it holds the subscription. */
    readonly renew: (member: Member, renewal: Renewal) => Effect.Effect<boolean, StoreError>
    /** Gives the subscription back; nobody takes it for so many milliseconds. */
    readonly release: (member: Member, afterMillis: number) => Effect.Effect<void, StoreError>
    /** Releases and forgets an instance. */
    readonly leave: (member: Member) => Effect.Effect<void, StoreError>
    /** Deletes messages of the consumer that were handled longer ago than this, at most `limit`; gives how many. */
    readonly purge: (
      scope: InboxScope,
      olderThanMillis: number,
      limit: number,
    ) => Effect.Effect<number, StoreError>
  }
>()("drizzle-outbox/Inbox") {}
