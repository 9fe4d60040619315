/** Gathers deliveries for a handler that takes several. */
import type { Admitted } from "./admission.ts"

export interface Batches {
  readonly add: (admitted: Admitted) => void
  /** Hands on what is gathered so far. */
  readonly flush: () => void
}

/** Hands `size` deliveries on at once, or what there is when the first has waited `millis`. */
export const makeBatches = (
  { size, millis }: { readonly size: number; readonly millis: number },
  hand: (batch: ReadonlyArray<Admitted>) => void,
): Batches => {
  let gathered: Array<Admitted> = []
  let timer: NodeJS.Timeout | undefined
  const flush = () => {
    clearTimeout(timer)
    timer = undefined
    if (gathered.length === 0) return
    const batch = gathered
    gathered = []
    hand(batch)
  }
  return {
    add: (admitted) => {
      gathered.push(admitted)
      if (gathered.length >= size) flush()
      // A consumer that was stopped keeps no process alive with it.
      else timer ??= setTimeout(flush, millis).unref()
    },
    flush,
  }
}
