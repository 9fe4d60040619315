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

/** Acts under way at the most: a machine that cannot keep up is not to be asked for ever more. */
const MOST = 1000

/**
 * Begins an act at each moment from now on, however long the ones before it take (an open loop), and waits for all of them.
 * Where too many are under way, a moment passes without one. Gives the moments of those begun, on the machine's clock.
 */
export const openLoop = async (
  moments: ReadonlyArray<number>,
  act: (index: number) => Promise<void>,
): Promise<ReadonlyArray<number>> => {
  const start = now()
  const begun: number[] = []
  const acts: Promise<void>[] = []
  let running = 0
  let next = 0
  await new Promise<void>((resolve) => {
    const tick = () => {
      for (; next < moments.length && start + moments[next]! <= now(); next++) {
        if (running >= MOST) continue
        running++
        begun.push(start + moments[next]!)
        acts.push(act(acts.length).finally(() => running--))
      }
      if (next === moments.length) resolve()
      else setTimeout(tick, Math.max(0, start + moments[next]! - now()))
    }
    tick()
  })
  await Promise.all(acts)
  return begun
}
