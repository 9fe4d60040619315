/** Judges a run by what was committed, what arrived and what took effect. */
import type { Tried } from "./writer.ts"

export interface History {
  /** What the business table holds in the end: references and keys. */
  readonly committed: ReadonlyArray<{ readonly ref: string; readonly key: string }>
  /** What the writers tried. */
  readonly tried: ReadonlyArray<Tried>
  /** What a subscriber saw, in the order of arrival; none where nobody could listen. */
  readonly arrivals: ReadonlyArray<{
    readonly id: string
    readonly ref: string
    readonly redelivered: boolean
    readonly at: number
  }>
  /** What the consumer did, in the order of its doing. */
  readonly effects: ReadonlyArray<{ readonly id: string; readonly ref: string }>
  /** References of what may be missing: dead on purpose, or lost with a broker's data. */
  readonly excused: ReadonlySet<string>
}

export interface Verdict {
  /** Committed, and never arrived or never took effect. */
  readonly lost: ReadonlyArray<string>
  /** Arrived or took effect, and never committed. */
  readonly invented: ReadonlyArray<string>
  /** Took effect more than once. */
  readonly effectsNotOne: ReadonlyArray<string>
  /** Came before what was committed before it was written, for one key. */
  readonly orderBroken: ReadonlyArray<string>
  /** Arrivals of an id that had arrived before, and was not the broker's own repetition. */
  readonly repeats: number
  /** Longest time without a first arrival, in milliseconds. */
  readonly longestStall: number
}

export const check = (history: History): Verdict => {
  const { committed, arrivals, effects, excused, tried } = history
  const refs = new Set(committed.map(({ ref }) => ref))
  const { first, repeats, longestStall } = firstOf(arrivals)
  const arrived = new Set(first.map(({ ref }) => ref))
  const times = new Map<string, number>()
  for (const { ref } of effects) times.set(ref, (times.get(ref) ?? 0) + 1)
  const wanted = [...refs].filter((ref) => !excused.has(ref))
  const writes = writesOf(tried)
  const sequences = [
    { what: "arrived", refs: first.map(({ ref }) => ref) },
    { what: "took effect", refs: effects.map(({ ref }) => ref) },
  ]
  return {
    lost: [
      ...wanted
        .filter((ref) => arrivals.length > 0 && !arrived.has(ref))
        .map((ref) => `${ref} never arrived`),
      ...wanted.filter((ref) => !times.has(ref)).map((ref) => `${ref} never took effect`),
    ],
    invented: [...new Set([...arrived, ...times.keys()])].filter((ref) => !refs.has(ref)),
    effectsNotOne: [...times].flatMap(([ref, n]) => (n === 1 ? [] : [`${ref} took effect ${n} times`])),
    orderBroken: sequences.flatMap(({ what, refs }) => breaksOf(what, refs, writes)),
    repeats,
    longestStall,
  }
}

const firstOf = (arrivals: History["arrivals"]) => {
  const seen = new Set<string>()
  const first: (typeof arrivals)[number][] = []
  let [repeats, longestStall] = [0, 0]
  for (const arrival of arrivals) {
    if (seen.has(arrival.id)) {
      if (!arrival.redelivered) repeats++
      continue
    }
    seen.add(arrival.id)
    const before = first.at(-1)
    if (before !== undefined) longestStall = Math.max(longestStall, arrival.at - before.at)
    first.push(arrival)
  }
  return { first, repeats, longestStall }
}

interface Write {
  readonly ref: string
  readonly key: string
  readonly transaction: number
  readonly index: number
  readonly called: number
  /** Infinite where its writer never knew: then it is nobody's predecessor. */
  readonly committed: number
}

const writesOf = (tried: ReadonlyArray<Tried>): ReadonlyMap<string, Write> => {
  const writes = new Map<string, Write>()
  tried.forEach(({ orders, called, committed }, transaction) => {
    orders.forEach(([ref, key], index) => {
      writes.set(ref, {
        ref,
        key,
        transaction,
        index,
        called,
        committed: committed ?? Number.POSITIVE_INFINITY,
      })
    })
  })
  return writes
}

/** Pairs of one key that came in the wrong order: of transactions of which one had committed before the other wrote, and within one transaction. */
const breaksOf = (
  what: string,
  refs: ReadonlyArray<string>,
  writes: ReadonlyMap<string, Write>,
): ReadonlyArray<string> => {
  const byKey = new Map<string, Write[]>()
  for (const ref of refs) {
    const write = writes.get(ref)
    if (write === undefined) continue
    const known = byKey.get(write.key)
    if (known === undefined) byKey.set(write.key, [write])
    else known.push(write)
  }
  const broken: string[] = []
  for (const [key, sequence] of byKey) {
    // Going backwards: nothing that came later may have been committed before this one was written.
    let earliest: Write | undefined
    const lowest = new Map<number, Write>()
    for (const write of sequence.toReversed()) {
      if (earliest !== undefined && earliest.committed < write.called)
        broken.push(
          `${key}: ${write.ref} ${what} before ${earliest.ref}, which was committed before it was written`,
        )
      const sibling = lowest.get(write.transaction)
      if (sibling !== undefined && sibling.index < write.index)
        broken.push(
          `${key}: ${write.ref} ${what} before ${sibling.ref}, which its transaction wrote before it`,
        )
      if (earliest === undefined || write.committed < earliest.committed) earliest = write
      if (sibling === undefined || write.index < sibling.index) lowest.set(write.transaction, write)
    }
  }
  return broken
}
