/** Medians, percentiles and how sure they are. */

const sorted = (values: ReadonlyArray<number>): number[] => values.toSorted((a, b) => a - b)

export const median = (values: ReadonlyArray<number>): number => {
  const ordered = sorted(values)
  const middle = Math.floor(ordered.length / 2)
  return ordered.length % 2 === 1 ? ordered[middle]! : (ordered[middle - 1]! + ordered[middle]!) / 2
}

/** The value that a `share` (0 to 1) of the values does not exceed: the nearest rank. */
export const percentile = (values: ReadonlyArray<number>, share: number): number => {
  const ordered = sorted(values)
  return ordered[Math.max(0, Math.ceil(share * ordered.length) - 1)] ?? Number.NaN
}

/**
 * The 95 % interval of the median by order statistics: assumes no distribution. Each value lies above the true median as
 * often as a coin shows heads, so the k-th lowest and the k-th highest enclose it with a known probability; k is the
 * largest that leaves 95 %. Fewer than six values cannot give it: then lowest and highest, which five enclose by 94 %.
 */
export const medianInterval = (values: ReadonlyArray<number>): readonly [number, number] => {
  const ordered = sorted(values)
  const count = ordered.length
  let below = 0
  let chance = 0.5 ** count
  let outside = chance
  while (2 * (outside + (chance * (count - below)) / (below + 1)) <= 0.05) {
    chance *= (count - below) / (below + 1)
    outside += chance
    below++
  }
  return [ordered[below]!, ordered[count - 1 - below]!]
}

/** To so many significant digits: what a chart or a table can bear. */
export const rounded = (value: number, digits = 4): number => Number(value.toPrecision(digits))
