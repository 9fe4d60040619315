/**
 * Who may have killed a connection that died without naming anyone.
 *
 * Until everyone who was in flight is settled or left out, fewer are in flight together: a quarter at each further death.
 * So the innocent pass quickly, and who is not is soon alone.
 */
import type { StoredMessage } from "../store/store.ts"

export type Suspects = ReturnType<typeof makeSuspects>

/** Nobody is suspected yet; `size` are in flight at the most in peace. */
export const makeSuspects = (size: number) => {
  const suspects = new Map<number, StoredMessage>()
  const deaths = new Map<number, number>()
  let limit = size

  return {
    any: (): boolean => suspects.size > 0,
    /** Messages in flight at the most now. */
    limit: (): number => {
      if (suspects.size === 0) limit = size
      return limit
    },
    /** A connection has died with these in flight. Gives the one that was alone, with the deaths it has been alone at. */
    accuse: (inFlight: ReadonlyArray<StoredMessage>) => {
      for (const message of inFlight) suspects.set(message.position, message)
      limit = Math.max(1, Math.floor(Math.min(limit, inFlight.length) / 4))
      const [only, ...others] = inFlight
      if (only === undefined || others.length > 0) return { alone: undefined, deaths: 0 }
      const count = (deaths.get(only.position) ?? 0) + 1
      deaths.set(only.position, count)
      return { alone: only, deaths: count }
    },
    /** It is left out for now, for another reason. */
    excuse: (position: number): void => {
      suspects.delete(position)
    },
    /** It has passed, or is given up. */
    acquit: (position: number): void => {
      suspects.delete(position)
      deaths.delete(position)
    },
    /** Those of these lanes are somebody else's now. */
    dropLanes: (lanes: ReadonlySet<number>): void => {
      for (const [position, message] of suspects) if (lanes.has(message.lane)) suspects.delete(position)
    },
    clear: (): void => {
      suspects.clear()
      deaths.clear()
    },
  }
}
