/** The port to the outbox's tables as a relay needs them. It sees positions, lanes and text; policy lives above it. */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type { StoreError } from "./error.ts"

/** Lanes of an outbox, for the table's life. */
export const LANES = 64

/** A pending message as the relay reads it. Positions are safe integers (the sequence would need 285 years at a million a second to leave them). */
export interface StoredMessage {
  readonly position: number
  readonly lane: number
  readonly id: string
  readonly event: string
  readonly eventId: string
  readonly operation: string
  readonly destination: string
  readonly version: string | null
  readonly key: string | null
  readonly headers: Readonly<Record<string, string>>
  readonly contentType: string
  readonly body: string | Uint8Array
  /** The database's clock at the write, ISO-8601 UTC with milliseconds. */
  readonly createdAt: string
  readonly attempts: number
  /** Its time to live was over when it was read. */
  readonly expired: boolean
}

/** A range of positions, both ends included. */
export interface Range {
  readonly low: number
  readonly high: number
}

/**
 * One pass over the outbox: what is new above `cursor` and what has appeared in `gaps`, or, while `from` is below
 * `cursor`, what is ready between the two and what has appeared in `gaps`. Read in one snapshot, in order of position.
 */
export interface Pass {
  readonly lanes: ReadonlyArray<number>
  readonly from: number
  readonly cursor: number
  readonly gaps: ReadonlyArray<Range>
  /** Messages at the most. */
  readonly limit: number
  /** Bytes of bodies at the most, one message in any case. */
  readonly bytes: number
}

/** A position that exists; with its message where it is ready and in one of the pass's lanes. */
export interface Seen {
  readonly position: number
  /** So many positions right before it, and above the pass's cursor, do not exist. */
  readonly missing: number
  readonly message: StoredMessage | undefined
}

export interface PassResult {
  /**
   * In order of position, none twice. Above the cursor a position without a message may be left out unless some are missing
   * before it or the pass ended with it.
   */
  readonly seen: ReadonlyArray<Seen>
  /** A limit cut the pass short: nothing is known about positions above the last one. */
  readonly full: boolean
}

/** A refused message that is pending and so holds its key. */
export interface RefusedMessage {
  readonly position: number
  readonly lane: number
  readonly destination: string
  readonly key: string
}

/** What becomes of a message that was not confirmed; written only while the lane's token is the holder's. */
export interface Verdict {
  readonly position: number
  readonly lane: number
  readonly token: number
  /** Kept as the message's last error. */
  readonly words: string
  /** The attempts it has used by now. */
  readonly attempts: number
  /** `dead`, due again after so many milliseconds, or (`pending`) as it was. */
  readonly fate: "dead" | "pending" | { readonly retryInMillis: number }
}

/** What a relay reports of itself and asks for. */
export interface Tick {
  readonly relay: string
  readonly name: string
  readonly leaseMillis: number
  /** False: only look and take lanes; the lease is young enough. */
  readonly renew: boolean
  /** The position up to which nothing can appear any more, as far as this relay knows. */
  readonly floor: number
  /** What operators see of it, as JSON text. */
  readonly state: string
}

export interface Share {
  /** False: the relay's lease had ended before it was renewed, and nothing is its own any more. */
  readonly alive: boolean
  /** Relays with a lease, this one included. */
  readonly live: number
  /** The lanes it holds now, each with its token. */
  readonly lanes: ReadonlyMap<number, number>
  /** Lanes that nobody alive holds. */
  readonly orphans: number
}

/** What is left in the outbox. */
export interface Counts {
  readonly pending: number
  readonly dead: number
  /** Age of the oldest pending message in milliseconds; 0 without one. */
  readonly oldestMillis: number
}

/** What may be deleted: finished messages whose finish lies further back than this. `undefined` keeps them. */
export interface PurgeRequest {
  readonly publishedMillis: number | undefined
  readonly deadMillis: number | undefined
  /** Looks at positions above this one. */
  readonly after: number
  readonly limit: number
}

export interface PurgeResult {
  readonly deleted: number
  /** Where the next request goes on; `undefined` when all that is old enough has been looked at. */
  readonly next: number | undefined
}

/** The outbox's tables. Time is the store's clock. */
export class OutboxStore extends Context.Service<
  OutboxStore,
  {
    /** Checks that the tables are those this program was built for, and gives the highest floor that any relay has recorded. */
    readonly open: Effect.Effect<number, StoreError>
    /** Renews the relay's lease, takes free lanes up to its share, ⌈64 / live relays⌉. */
    readonly tick: (tick: Tick) => Effect.Effect<Share, StoreError>
    /** Gives lanes back; all of them, and the lease, without `lanes`. */
    readonly release: (relay: string, lanes?: ReadonlyArray<number>) => Effect.Effect<void, StoreError>
    readonly read: (pass: Pass) => Effect.Effect<PassResult, StoreError>
    /** Names of the transactions that may still make a position appear that has been passed. */
    readonly writers: Effect.Effect<ReadonlySet<string>, StoreError>
    /** The refused and pending messages of these lanes, lowest position first. */
    readonly refused: (
      lanes: ReadonlyArray<number>,
    ) => Effect.Effect<ReadonlyArray<RefusedMessage>, StoreError>
    /** Makes what is due ready, where the tokens are the holder's, and gives it in order of position. */
    readonly promote: (
      lanes: ReadonlyMap<number, number>,
      limit: number,
    ) => Effect.Effect<ReadonlyArray<StoredMessage>, StoreError>
    /** Records confirmations: they stay true whoever holds the lane. `keep: false` deletes instead. */
    readonly published: (positions: ReadonlyArray<number>, keep: boolean) => Effect.Effect<void, StoreError>
    /** Records verdicts and gives the positions of those whose token was good. */
    readonly judge: (verdicts: ReadonlyArray<Verdict>) => Effect.Effect<ReadonlySet<number>, StoreError>
    readonly purge: (request: PurgeRequest) => Effect.Effect<PurgeResult, StoreError>
    readonly counts: Effect.Effect<Counts, StoreError>
  }
>()("drizzle-outbox/OutboxStore") {}
