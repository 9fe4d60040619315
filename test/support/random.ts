/** A seeded generator (mulberry32), so that a failing run can be repeated. */
export const random = (seed: number) => {
  let state = seed >>> 0
  const next = (): number => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
  return {
    next,
    /** An integer from 0 up to, not including, `n`. */
    below: (n: number): number => Math.floor(next() * n),
    chance: (p: number): boolean => next() < p,
  }
}
