/** The keys that a relay has messages of in flight or in turn, or holds back. */
import type { StoredMessage } from "../store/store.ts"

export interface KeyState {
  readonly destination: string
  readonly key: string
  readonly lane: number
  flying: number
  /** Refused positions, which hold the key; the lowest is the one that may go. */
  heads: ReadonlyArray<number>
  /** The lowest position left out; infinite when none is. */
  lowest: number
  /** Next in turn, where only one message of a key may be in flight. */
  queue: StoredMessage[] | undefined
}

/** Messages of one key that wait in memory for their turn; more are left out and read again. */
const QUEUE = 64

const nobody: ReadonlyArray<number> = []

export type Keys = ReturnType<typeof makeKeys>

export const makeKeys = () => {
  const destinations = new Map<string, Map<string, KeyState>>()
  let queued = 0
  let held = 0

  const setHeads = (state: KeyState, heads: ReadonlyArray<number>) => {
    held += Number(heads.length > 0) - Number(state.heads.length > 0)
    state.heads = heads
  }
  const ensure = (destination: string, key: string, lane: number): KeyState => {
    let states = destinations.get(destination)
    if (states === undefined) {
      states = new Map()
      destinations.set(destination, states)
    }
    const known = states.get(key)
    if (known !== undefined) return known
    const state: KeyState = {
      destination,
      key,
      lane,
      flying: 0,
      heads: nobody,
      lowest: Number.POSITIVE_INFINITY,
      queue: undefined,
    }
    states.set(key, state)
    return state
  }

  return {
    of: (message: StoredMessage): KeyState | undefined =>
      message.key === null ? undefined : destinations.get(message.destination)?.get(message.key),
    ensure,
    forget: (state: KeyState): void => {
      setHeads(state, nobody)
      const states = destinations.get(state.destination)
      states?.delete(state.key)
      if (states?.size === 0) destinations.delete(state.destination)
    },
    all: function* (): Generator<KeyState> {
      for (const states of destinations.values()) yield* states.values()
    },
    at: (destination: string): Iterable<KeyState> => destinations.get(destination)?.values() ?? [],
    clear: (): void => {
      destinations.clear()
      queued = 0
      held = 0
    },

    /** A refused message holds its key. */
    hold: (state: KeyState, position: number): void => {
      if (!state.heads.includes(position)) setHeads(state, [...state.heads, position])
    },
    /** Those for which this is true hold it no more. */
    unhold: (state: KeyState, done: (position: number) => boolean): void => {
      if (state.heads.length > 0)
        setHeads(
          state,
          state.heads.filter((head) => !done(head)),
        )
    },
    /** Keys held by refused messages. */
    held: (): number => held,

    /** Messages that wait in memory for their turn. */
    queued: (): number => queued,
    waits: (state: KeyState, position: number): boolean =>
      state.queue?.some((waiting) => waiting.position === position) === true,
    /** Lets a message wait in memory for its turn; false where it cannot. */
    enqueue: (state: KeyState, message: StoredMessage): boolean => {
      state.queue ??= []
      if (state.queue.length >= QUEUE || message.position <= (state.queue.at(-1)?.position ?? 0)) return false
      state.queue.push(message)
      queued++
      return true
    },
    next: (state: KeyState): StoredMessage | undefined => {
      const next = state.queue?.shift()
      if (next !== undefined) queued--
      return next
    },
    /** Leaves out what waits in memory: it is read again later. */
    dropQueue: (state: KeyState): void => {
      const first = state.queue?.[0]
      if (first === undefined) return
      state.lowest = Math.min(state.lowest, first.position)
      queued -= state.queue?.length ?? 0
      state.queue = undefined
    },
  }
}
