/** Milliseconds of the machine's monotonic clock: the same in every process of one run. */
export const monotonic = (): number => Number(process.hrtime.bigint()) / 1e6

export const sleep = (millis: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, millis))

/** Waits until `check` gives something other than undefined, at most `seconds`; undefined when it never did. What it throws is no answer yet. */
export const until = async <A>(
  check: () => Promise<A | undefined> | A | undefined,
  seconds: number,
  everyMillis = 20,
): Promise<A | undefined> => {
  const end = monotonic() + seconds * 1000
  for (;;) {
    const found = await Promise.resolve()
      .then(check)
      .catch(() => undefined)
    if (found !== undefined) return found
    if (monotonic() > end) return undefined
    await sleep(everyMillis)
  }
}
