/** Judges what arrived at a broker: first arrivals per destination and key, and whether they are in order. */
import { assert } from "@effect/vitest"

/** A message as somebody received it. */
export interface Arrived {
  readonly destination: string
  readonly headers: Readonly<Record<string, string | undefined>>
}

/** First arrivals by message id, and their positions per destination and key, in the order of arrival. */
export const firstArrivals = (arrived: Iterable<Arrived>) => {
  const ids = new Set<string>()
  const byKey = new Map<string, number[]>()
  let repeats = 0
  for (const { destination, headers } of arrived) {
    const id = String(headers["outbox-message-id"])
    if (ids.has(id)) {
      repeats++
      continue
    }
    ids.add(id)
    const key = headers["outbox-key"]
    if (key === undefined) continue
    const scope = `${destination} ${key}`
    const positions = byKey.get(scope)
    if (positions === undefined) byKey.set(scope, [Number(headers["outbox-position"])])
    else positions.push(Number(headers["outbox-position"]))
  }
  return { ids, byKey, repeats }
}

/** Fails unless the first arrivals of every key are in order of position (what one writer a key, or none at once, must give). */
export const assertInOrder = (arrived: Iterable<Arrived>): void => {
  for (const [key, positions] of firstArrivals(arrived).byKey)
    assert.deepStrictEqual(
      positions,
      positions.toSorted((a, b) => a - b),
      `order of ${key}`,
    )
}

/** One write as its writer saw it, times on one monotonic clock. */
export interface Write {
  readonly position: number
  readonly scope: string
  /** When the write began, and when its transaction's commit had returned. */
  readonly began: number
  readonly committed: number
}

/**
 * Pairs of one destination and key in which the first transaction's commit had returned before the second's write began,
 * yet whose messages arrived the other way round: there must be none.
 */
export const causalBreaks = (
  arrived: Iterable<Arrived>,
  writes: ReadonlyArray<Write>,
): ReadonlyArray<string> => {
  const { byKey } = firstArrivals(arrived)
  const writeOf = new Map(writes.map((write) => [write.position, write]))
  const broken: string[] = []
  for (const [scope, positions] of byKey) {
    // Going backwards, the earliest commit among what arrived later must not lie before this one's beginning.
    let earliest: Write | undefined
    for (const position of positions.toReversed()) {
      const write = writeOf.get(position)
      if (write === undefined) continue
      if (earliest !== undefined && earliest.committed < write.began)
        broken.push(
          `${scope}: ${position} arrived before ${earliest.position}, which was committed before it was written`,
        )
      if (earliest === undefined || write.committed < earliest.committed) earliest = write
    }
  }
  return broken
}
