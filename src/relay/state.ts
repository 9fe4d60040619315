/** What the relay's loops share: one mutable record, written by the loop that owns each part. */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as Schedule from "effect/Schedule"
import type { Broker, Outgoing, Settlement } from "../broker/broker.ts"
import { wireHeaders } from "../broker/headers.ts"
import { LANES, type OutboxStore, type StoredMessage, type Verdict } from "../store/store.ts"
import type { Cursor } from "./cursor.ts"
import { makeCursor } from "./cursor.ts"
import { outcomeOf, type Seen } from "./outcome.ts"
import { makeSignal, type Signal } from "./signal.ts"
import type { Trunk } from "./trunk.ts"
import { makeWindow, type Window } from "./window.ts"

export interface RelaySettings {
  readonly name: string
  readonly leaseMillis: number
  readonly window: number
  readonly windowBytes: number
  readonly batch: number
  readonly pollMillis: number
  readonly receiptMillis: number
  readonly maxAttempts: number
  readonly backoff: Schedule.Schedule<unknown, unknown>
  readonly retentionMillis: number
  readonly deadRetentionMillis: number | undefined
  readonly drainMillis: number
  readonly once: boolean
  readonly djangoHeaders: boolean
  readonly onTick: Effect.Effect<void>
}

/** A verdict before its fence and its pause are known. */
export interface Judgement {
  readonly message: StoredMessage
  readonly words: string
  readonly attempts: number
  readonly fate: "dead" | "retry" | "pending"
}

/** What the broker's side looks like now. */
export type BrokerState = "connecting" | "connected" | "blocked"

export interface RelayState {
  readonly settings: RelaySettings
  readonly store: OutboxStore["Service"]
  readonly broker: Broker["Service"]
  readonly window: Window
  readonly cursor: Cursor
  /** Monotonic milliseconds. */
  readonly now: () => number
  /** This holder's name in the store; a new one after every lost lease. */
  id: string
  /** Lanes held, each with its token. */
  readonly lanes: Map<number, number>
  /** Lanes that nobody alive holds, as of the last look. */
  orphans: number
  /** Lanes that are not read any more and go back when nothing of theirs is in flight. */
  readonly leaving: Set<number>
  /** Monotonic end of the lease: nothing is written to the broker from here on. */
  deadline: number
  connection: Trunk | undefined
  brokerState: BrokerState
  brokerWords: string | undefined
  brokerServer: string | undefined
  lastReceiptAt: number
  /** `lastReceiptAt` is of this very moment. */
  hearing: boolean
  unblockedAt: number
  draining: boolean
  /** The reader waits for room for so many messages; 0 when it waits for messages. */
  hunger: number
  /** A nudge has come since the last look. */
  nudged: boolean
  readonly wake: Signal
  readonly settle: Signal
  confirmed: StoredMessage[]
  judged: Judgement[]
  /** Lines for the log that plain callbacks leave behind. */
  readonly notices: {
    readonly level: "warn" | "info"
    readonly text: string
    readonly fields: Record<string, unknown>
  }[]
  readonly counts: { published: number; dead: number; refused: number; sentAgain: number; fencedOff: number }
}

/** The loops' shared state on a store at this floor. */
export const makeState = Effect.fnUntraced(function* (
  settings: RelaySettings,
  store: OutboxStore["Service"],
  broker: Broker["Service"],
  floor: number,
) {
  const clock = yield* Clock.Clock
  const now = () => Number(clock.monotonicTimeNanosUnsafe()) / 1e6
  const wake = yield* makeSignal
  const cursor = makeCursor(floor)
  const state: RelayState = {
    settings,
    store,
    broker,
    cursor,
    window: makeWindow({
      size: settings.window,
      bytes: settings.windowBytes,
      now,
      rewind: (position) => {
        cursor.rewind(position)
        wake.raise()
      },
    }),
    now,
    id: crypto.randomUUID(),
    lanes: new Map(),
    orphans: LANES,
    leaving: new Set(),
    deadline: Number.NEGATIVE_INFINITY,
    connection: undefined,
    brokerState: "connecting",
    brokerWords: undefined,
    brokerServer: undefined,
    lastReceiptAt: Number.NEGATIVE_INFINITY,
    hearing: false,
    unblockedAt: Number.NEGATIVE_INFINITY,
    draining: false,
    hunger: 0,
    nudged: false,
    wake,
    settle: yield* makeSignal,
    confirmed: [],
    judged: [],
    notices: [],
    counts: { published: 0, dead: 0, refused: 0, sentAgain: 0, fencedOff: 0 },
  }
  return state
})

/** Leaves a line for the log, from where no Effect runs. */
export const note = (
  state: RelayState,
  level: "warn" | "info",
  text: string,
  fields: Record<string, unknown> = {},
): void => {
  state.notices.push({ level, text, fields })
  state.settle.raise()
}

/** The lease is over: what has not left the process never does, and nothing is this relay's any more. */
export const loseLease = (state: RelayState): void => {
  if (state.lanes.size > 0)
    note(state, "warn", "the lease ended before it was renewed: starting again", { relay: state.id })
  state.connection?.destroy()
  state.lanes.clear()
  state.leaving.clear()
  state.window.clear()
  state.deadline = Number.NEGATIVE_INFINITY
  state.id = crypto.randomUUID()
}

/** Hands messages that count as in flight to the broker; false when there is no lease or no connection to do it with. */
export const send = (state: RelayState, messages: ReadonlyArray<StoredMessage>): boolean => {
  if (messages.length === 0) return true
  if (state.now() >= state.deadline) {
    loseLease(state)
    return false
  }
  const connection = state.connection
  if (connection === undefined) return false
  const sentAt = state.now()
  const { flights } = state.window
  for (const { position } of messages) {
    const flight = flights.get(position)
    if (flight !== undefined) flight.sentAt = sentAt
  }
  const { djangoHeaders } = state.settings
  connection.send(
    messages,
    sentAt,
    (message) => toOutgoing(message, djangoHeaders),
    (message, settlement) => onSettlement(state, message, settlement),
  )
  return true
}

/** A stored message as it goes to the broker. */
export const toOutgoing = (message: StoredMessage, django: boolean): Outgoing => {
  const headers = wireHeaders(message, { django })
  return {
    id: headers["outbox-message-id"] ?? message.id,
    destination: message.destination,
    headers,
    contentType: message.contentType,
    body: message.body,
  }
}

const onSettlement = (state: RelayState, message: StoredMessage, settlement: Settlement): void => {
  if (settlement._tag === "Confirmed") {
    if (!state.hearing) hear(state)
    if (state.brokerState === "blocked") {
      state.brokerState = "connected"
      state.unblockedAt = state.lastReceiptAt
      note(state, "info", "the broker confirms again", {})
    }
  }
  apply(state, message, settlement)
}

/** Confirmations come in bursts: one look at the clock for each. */
const hear = (state: RelayState): void => {
  state.lastReceiptAt = state.now()
  state.hearing = true
  queueMicrotask(() => {
    state.hearing = false
  })
}

/** Carries out what `outcomeOf` decides. */
export const apply = (state: RelayState, message: StoredMessage, seen: Seen): void => {
  const outcome = outcomeOf(seen, message.attempts, state.settings.maxAttempts)
  switch (outcome._tag) {
    case "Published":
      if (state.window.confirmed(message)) state.confirmed.push(message)
      break
    case "Dead":
      if (state.window.dead(message))
        state.judged.push({ message, words: outcome.words, attempts: message.attempts, fate: "dead" })
      break
    case "Retry":
      if (state.window.refused(message))
        state.judged.push({ message, words: outcome.words, attempts: outcome.attempts, fate: "retry" })
      break
    case "HoldDestination": {
      const held = state.window.holdDestination(message, outcome.words)
      if (held !== undefined) {
        state.judged.push({
          message: held.probe,
          words: outcome.words,
          attempts: held.probe.attempts,
          fate: "pending",
        })
        note(state, "warn", "destination held", {
          destination: message.destination,
          reason: outcome.words,
          probes: held.steps - 1,
        })
      }
      break
    }
    case "SendAgain":
      state.counts.sentAgain++
  }
  state.settle.raise()
  feedReader(state)
}

/** Wakes the reader where what has just been settled lets it go on; a new message it finds by polling. */
export const feedReader = (state: RelayState): void => {
  const { window, hunger } = state
  if (
    (hunger > 0 && (window.room() >= hunger || window.flights.size === 0)) ||
    (state.settings.once && window.idle()) ||
    window.turnReady()
  )
    state.wake.raise()
}

/** A verdict's fence: the token of its lane, or none when the lane has gone. */
export const verdictOf = (state: RelayState, judgement: Judgement, fate: Verdict["fate"]): Verdict => ({
  position: judgement.message.position,
  lane: judgement.message.lane,
  token: state.lanes.get(judgement.message.lane) ?? -1,
  words: judgement.words,
  attempts: judgement.attempts,
  fate,
})
