/**
 * How far a relay has read: a cursor, and the gaps below it, positions never seen.
 *
 * A position is drawn before its transaction commits, so a lower one can appear after a higher one. Every position at or
 * below the cursor has been seen or lies in a gap. A gap shrinks as its positions appear; what is left is forgotten once
 * every transaction that could still make it appear has ended and one more pass has looked.
 */
import type { Pass, PassResult, Range } from "../store/store.ts"

interface Gap {
  low: number
  high: number
  /** The writers that were open after the cursor passed it; unknown until they have been asked for. */
  writers: ReadonlySet<string> | undefined
  /** All of them have ended: a pass that begins now is the last look. */
  ended: boolean
}

export interface Cursor {
  /** What the next pass reads. It must be handed back to `absorb` with its result. */
  readonly begin: () => Pick<Pass, "from" | "cursor" | "gaps">
  readonly absorb: (result: PassResult) => void
  /** Reads again what is ready from this position on; keeps the gaps. */
  readonly rewind: (position: number) => void
  /** Whether everything ready at and below this position has been read. */
  readonly passed: (position: number) => boolean
  /** Whether some gap waits for writers to end. */
  readonly uncertain: () => boolean
  /** Takes note of the writers open now. */
  readonly observe: (writers: ReadonlySet<string>) => void
  /** Nothing at or below this position can appear any more. */
  readonly floor: () => number
  /** True while it reads what lies behind the cursor. */
  readonly behind: () => boolean
}

/** A cursor at a known floor, which first reads everything ready at or below it. */
export const makeCursor = (floor: number): Cursor => {
  let from = 0
  let cursor = floor
  let gaps: Gap[] = []
  /** The lowest rewind since the pass under way began: the pass cannot have read it. */
  let rewound = Number.POSITIVE_INFINITY
  let start = 0
  /** The gaps for which the pass under way is the last look. */
  let looking = new Set<Gap>()

  const close = (position: number) => {
    const index = gaps.findIndex((gap) => gap.low <= position && position <= gap.high)
    const gap = gaps[index]
    if (gap === undefined) return
    const parts = [
      { ...gap, high: position - 1 },
      { ...gap, low: position + 1 },
    ].filter((part) => part.low <= part.high)
    if (looking.has(gap)) for (const part of parts) looking.add(part)
    gaps.splice(index, 1, ...parts)
  }

  return {
    begin: () => {
      start = from
      rewound = Number.POSITIVE_INFINITY
      looking = new Set(gaps.filter((gap) => gap.ended))
      return { from, cursor, gaps: gaps.map(({ low, high }): Range => ({ low, high })) }
    },

    absorb: ({ seen, full }) => {
      const behind = start < cursor
      const last = seen.at(-1)?.position ?? 0
      for (const { position, missing } of seen) {
        if (position <= cursor) {
          close(position)
          continue
        }
        if (missing > 0)
          gaps.push({ low: position - missing, high: position - 1, writers: undefined, ended: false })
        cursor = position
      }
      gaps = gaps.filter((gap) => !(looking.has(gap) && (!full || gap.high <= last)))
      from = Math.min(behind && full ? Math.max(start, last) : cursor, rewound)
    },

    rewind: (position) => {
      from = Math.min(from, position - 1)
      rewound = Math.min(rewound, position - 1)
    },

    passed: (position) => position <= from,

    uncertain: () => gaps.some((gap) => !gap.ended),

    observe: (writers) => {
      for (const gap of gaps) {
        if (gap.ended) continue
        gap.writers ??= writers
        gap.ended = ![...gap.writers].some((writer) => writers.has(writer))
      }
    },

    floor: () => gaps.reduce((lowest, gap) => Math.min(lowest, gap.low - 1), cursor),
    behind: () => from < cursor,
  }
}
