/** What a consumer's loops share: one mutable record, written by the loop that owns each part. */
import type { BrokerConnection } from "../broker/broker.ts"
import type { Inbox, Member } from "../inbox/inbox.ts"
import type { Signal } from "../relay/signal.ts"
import type { Counts, Engine } from "./engine.ts"
import type { Lanes } from "./lanes.ts"
import type { ConsumerSettings } from "./options.ts"
import type { Pause } from "./pause.ts"

export interface ConsumerState {
  readonly settings: ConsumerSettings
  readonly inbox: Inbox["Service"]
  readonly member: Member
  readonly engine: Engine
  readonly lanes: Lanes
  readonly pause: Pause
  readonly counts: Counts
  /** Monotonic milliseconds. */
  readonly now: () => number
  /** Something may be due in the inbox. */
  readonly due: Signal
  /** A pause began. */
  readonly paused: Signal
  /** The subscription is wanted, or was got or lost. */
  readonly hold: Signal
  /** Raised where the subscription is wanted: it is asked for at once. */
  readonly ask: Signal
  connection: BrokerConnection | undefined
  connectionState: "connecting" | "connected" | "standing by"
  words: string | undefined
  /** This instance wants to be the one that subscribes. */
  wanted: boolean
  /** It is, until then on the monotonic clock. */
  heldUntil: number
  /** How it was given up last; another object each time. */
  released: { readonly afterMillis: number }
  /** How long the subscription stays its own without a renewal. */
  leaseMillis: number
  /** Deliveries that are still to be taken as suspects: a process that read them before never said good-bye. */
  suspects: number
  draining: boolean
}

/** What operators see of an instance. */
export const describe = (state: ConsumerState): string => {
  const paused = state.pause.paused()
  return JSON.stringify({
    connection: state.connectionState,
    ...(state.words !== undefined && { words: state.words }),
    ...(paused !== undefined && {
      paused: { reason: paused.reason, words: paused.words, since: new Date(paused.since).toISOString() },
    }),
    running: state.lanes.running(),
    ...state.counts,
  })
}
