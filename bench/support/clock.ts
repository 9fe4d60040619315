/** One clock for all processes of a machine, and work that begins when it should. */

/** Milliseconds of the machine's monotonic clock, which its processes share. */
export const now = (): number => Number(process.hrtime.bigint()) / 1e6

/**
 * So many moments as random as a Poisson process has them, in milliseconds from its beginning: no relay's poll can fall in
 * step with them. One at least.
 */
export const poisson = (perSecond: number, seconds: number): ReadonlyArray<number> =>
  Array.from(
    { length: Math.max(1, Math.round(perSecond * seconds)) },
    () => Math.random() * seconds * 1000,
  ).toSorted((a, b) => a - b)

/**
 * Begins `act(index)` at each moment from now on, however long the ones before it take (an open loop), and waits for all of
 * them. Gives the moments on the machine's clock.
 */
export const openLoop = async (
  moments: ReadonlyArray<number>,
  act: (index: number) => Promise<void>,
): Promise<ReadonlyArray<number>> => {
  const began = now()
  const acts: Promise<void>[] = []
  await new Promise<void>((resolve) => {
    const tick = () => {
      while (acts.length < moments.length && began + moments[acts.length]! <= now())
        acts.push(act(acts.length))
      if (acts.length === moments.length) resolve()
      else setTimeout(tick, began + moments[acts.length]! - now())
    }
    tick()
  })
  await Promise.all(acts)
  return moments.map((moment) => began + moment)
}
