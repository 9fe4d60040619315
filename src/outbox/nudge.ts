/** The hint that messages are waiting: called after a write, never needed for correctness. */

/** Tells a relay to look now rather than at its next poll. */
export interface Nudge {
  /** Returns at once and never throws. */
  readonly nudge: () => void
}

/** A nudge whose calls within one turn of the event loop become one. */
export const coalesced = (nudge: Nudge): Nudge => {
  let waiting = false
  return {
    nudge: () => {
      if (waiting) return
      waiting = true
      setImmediate(() => {
        waiting = false
        nudge.nudge()
      })
    },
  }
}

/** The nudges of transactions whose commit is awaited by `transaction`. */
const awaited = new WeakMap<object, Set<Nudge>>()

/** Nudges after the commit where `transaction` watches it, else now. */
export const announce = (tx: object, nudge: Nudge | undefined): void => {
  if (nudge === undefined) return
  const waiting = awaited.get(tx)
  if (waiting === undefined) nudge.nudge()
  else waiting.add(nudge)
}

/** Collects the nudges of `tx` until the returned function is called, after its commit. `outer` is what `tx` was begun on. */
export const awaitCommit = (tx: object, outer: object): (() => void) => {
  const waiting = new Set<Nudge>()
  awaited.set(tx, waiting)
  return () => {
    for (const nudge of waiting) announce(outer, nudge)
  }
}
