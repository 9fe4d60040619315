/**
 * Messages over which the broker closes connections without a word, as it may in an outage, too.
 *
 * Each is tried on a connection of its own, while its key waits and everything else goes on. Only what others are
 * confirmed beside tells it from an outage.
 */
import type { StoredMessage } from "../store/store.ts"

export interface SetAside {
  readonly message: StoredMessage
  probing: boolean
  /** Probes so far. */
  steps: number
  /** Of these, the ones whose connection was closed while others got confirmations. */
  deaths: number
  /** When the next probe is due on the window's clock; unknown until the pause has been computed. */
  probeAt: number | undefined
}

/** So long, in milliseconds, others have to be confirmed after a probe's connection was closed. */
export const OTHERS_MILLIS = 2000

/** Connections closed in a row, with messages in flight and none confirmed, after which one of these is suspected. */
export const FUTILE_CONNECTIONS = 2
