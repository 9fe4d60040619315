/** "Did you mean …?" */

/** The candidate that is at most two edits, and less than half its letters, away. */
export const closest = (given: string, candidates: Iterable<string>): string | undefined => {
  let best: string | undefined
  let least = 3
  for (const candidate of candidates) {
    const edits = distance(given, candidate)
    if (edits < least && edits < candidate.length / 2) {
      best = candidate
      least = edits
    }
  }
  return best
}

/** Letters to insert, remove, replace or swap with a neighbour. */
const distance = (a: string, b: string): number => {
  const rows: number[][] = Array.from({ length: a.length + 1 }, (_, i) => [i])
  const at = (i: number, j: number) => rows[i]?.[j] ?? 0
  for (let j = 1; j <= b.length; j++) rows[0]?.push(j)
  for (let i = 1; i <= a.length; i++)
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1] ? 0 : 1
      const swapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]
      const edits = Math.min(at(i - 1, j) + 1, at(i, j - 1) + 1, at(i - 1, j - 1) + same)
      rows[i]?.push(swapped ? Math.min(edits, at(i - 2, j - 2) + 1) : edits)
    }
  return at(a.length, b.length)
}
