/**
 * Which statements of handlers the server is to parse once a connection rather than once a message: those that come
 * again, as postgres.js does with its own. Drizzle asks it for none.
 */

/** What comes once is not remembered for longer than so many others. */
const MOST_SEEN = 500

/** Each costs every connection some memory. */
const MOST_PREPARED = 100

/** Longer texts come from lists, and are not the same the next time. */
const LONGEST = 4000

export interface Preparing {
  /** Whether this text is to be prepared: from its second time on. */
  readonly wants: (text: string) => boolean
  /** True when what a prepared statement threw may come of that: its text is not prepared from then on, and its transaction is worth another try. */
  readonly blames: (text: string, cause: unknown) => boolean
}

export const makePreparing = (): Preparing => {
  const seen = new Set<string>()
  const prepared = new Set<string>()
  const stale = new Set<string>()
  return {
    wants: (text) => {
      if (prepared.has(text)) return true
      if (prepared.size + stale.size >= MOST_PREPARED || text.length > LONGEST || stale.has(text))
        return false
      if (seen.delete(text)) {
        prepared.add(text)
        return true
      }
      if (seen.size >= MOST_SEEN) seen.clear()
      seen.add(text)
      return false
    },
    blames: (text, cause) => {
      if (!isStale(cause)) return false
      prepared.delete(text)
      stale.add(text)
      return true
    },
  }
}

/** Tables changed since it was parsed (0A000, or any mismatch of names and types), or the server has forgotten it (26000). */
const isStale = (cause: unknown): boolean =>
  typeof cause === "object" &&
  cause !== null &&
  "code" in cause &&
  typeof cause.code === "string" &&
  /^(0A|26|42)/.test(cause.code)
