/**
 * What a relay has in flight and what it holds back.
 *
 * Invariant: for each destination and key, what is sent on a connection is a gap-free run from the lowest unfinished
 * position. So two relays' streams may mix on a broker and are still in order once repeats are dropped.
 *
 * A message that must wait is not kept: only the lowest position left out is, and `rewind` is called with it when the
 * reason ends, so that memory does not grow with what is held.
 */
import type { RefusedMessage, StoredMessage } from "../store/store.ts"
import type { SetAside } from "./aside.ts"
import { type KeyState, makeKeys } from "./keys.ts"
import { makeSuspects } from "./suspects.ts"

/** A message on its way to the broker. */
export interface Flight {
  readonly message: StoredMessage
  /** When it was taken into flight, then when it was handed to the connection: all of one call at the same moment. */
  sentAt: number
  /** When it was first seen that its receipt is late while one of a message sent later has come. */
  overtakenAt?: number
  /** Without one the message holds nobody and nobody holds it. */
  readonly key: KeyState | undefined
}

export interface HeldDestination {
  readonly since: number
  words: string
  /** The message that is tried when the pause is over. */
  probe: StoredMessage
  probing: boolean
  /** Probes refused so far. */
  steps: number
  lowest: number
  /** When the probe is due on the window's clock; unknown until the pause has been computed. */
  probeAt: number | undefined
}

/** Who was alone in flight at the end of a connection, and at how many. */
export interface Lost {
  readonly alone: StoredMessage | undefined
  readonly deaths: number
  /** Who has been set aside for it. */
  readonly aside: StoredMessage | undefined
}

export interface WindowOptions {
  /** Messages in flight at the most. */
  readonly size: number
  /** Bytes of bodies in flight at the most; a single message may pass in any case. */
  readonly bytes: number
  /** Reads again from this position. */
  readonly rewind: (position: number) => void
  /** A monotonic clock in milliseconds. */
  readonly now: () => number
}

export type Window = ReturnType<typeof makeWindow>

export const makeWindow = (options: WindowOptions) => {
  const flights = new Map<number, Flight>()
  /** Settled by the broker or judged, but not yet in the database. */
  const settling = new Set<number>()
  /** The refused and dead ones among them, which hold their keys until that is recorded, whatever happens to the lanes meanwhile. */
  const judging = new Map<number, { readonly message: StoredMessage; readonly dead: boolean }>()
  /** Refused ones that were seen ready again before their verdict's answer came. */
  const again = new Set<number>()
  /** Settled in the database since the read under way began, which may still show them as pending. True: refused. */
  const fresh = new Map<number, boolean>()
  const keys = makeKeys()
  const destinations = new Map<string, HeldDestination>()
  const aside = new Map<number, SetAside>()
  /** Keys and destinations released since the read under way began: what it brings of them could leap ahead. */
  const frozen = new Set<string>()
  let turn: StoredMessage[] = []
  let bytes = 0
  let pipelined = false
  let stale = false
  let draining = false
  const suspects = makeSuspects(options.size)
  const busy = new Int32Array(64)

  const idOf = (destination: string, key: string) => `${destination}\0${key}`
  const isFrozen = ({ destination, key }: StoredMessage) =>
    frozen.size > 0 && (frozen.has(destination) || (key !== null && frozen.has(idOf(destination, key))))

  /** What is in flight of these lanes. */
  const flyingOn = (carried: (lane: number) => boolean): ReadonlyArray<StoredMessage> =>
    [...flights.values()].map(({ message }) => message).filter(({ lane }) => carried(lane))

  /** Takes a message out of flight, where it is. */
  const land = (position: number): void => {
    const flight = flights.get(position)
    if (flight === undefined) return
    flights.delete(position)
    bytes -= flight.message.body.length
    busy[flight.message.lane]!--
    if (flight.key !== undefined) flight.key.flying--
  }

  /** Lets a key go on after one of its messages has landed. */
  const advance = (state: KeyState | undefined) => {
    if (state === undefined || state.flying > 0) return
    if (state.heads.length > 0) {
      // Another refused message has its turn; it may have been seen ready and left out.
      if (state.lowest !== Number.POSITIVE_INFINITY) options.rewind(state.lowest)
      return
    }
    const next = draining ? undefined : keys.next(state)
    if (next === undefined) return release(state)
    take(next, state, options.now())
    turn.push(next)
  }

  /** Nothing holds the key any more: what was left out of it is read again. */
  const release = (state: KeyState) => {
    keys.forget(state)
    if (state.lowest === Number.POSITIVE_INFINITY) return
    frozen.add(idOf(state.destination, state.key))
    options.rewind(state.lowest)
  }

  /** The message keeps its key until its verdict is in the database, and what is in turn behind it is read again. */
  const judge = (message: StoredMessage, dead: boolean): boolean => {
    const { position, lane } = message
    if (settling.has(position)) return false
    settling.add(position)
    busy[lane]!++
    judging.set(position, { message, dead })
    if (dead) suspects.acquit(position)
    else suspects.excuse(position)
    aside.delete(position)
    if (message.key !== null) {
      const state = keys.ensure(message.destination, message.key, lane)
      keys.hold(state, position)
      keys.dropQueue(state)
    }
    land(position)
    endProbe(message)
    return true
  }

  const releaseDestination = (destination: string) => {
    const held = destinations.get(destination)
    if (held === undefined) return
    destinations.delete(destination)
    frozen.add(destination)
    options.rewind(held.lowest)
  }

  /** A message that is settled is no probe any more: whether its destination is well, the next message shows. */
  const endProbe = (message: StoredMessage) => {
    if (destinations.get(message.destination)?.probe.position === message.position)
      releaseDestination(message.destination)
  }

  /** Leaves a message out for now. */
  const leave = (holder: { lowest: number }, position: number): false => {
    holder.lowest = Math.min(holder.lowest, position)
    suspects.excuse(position)
    return false
  }

  const take = (message: StoredMessage, known: KeyState | undefined, sentAt: number) => {
    const { position, destination, key, lane } = message
    const state = key === null ? undefined : (known ?? keys.ensure(destination, key, lane))
    if (state !== undefined) state.flying++
    flights.set(position, { message, sentAt, key: state })
    bytes += message.body.length
    busy[lane]!++
  }

  /** It is tried apart from the others, and holds its key meanwhile. */
  const setAside = (message: StoredMessage) => {
    const { position, destination, key, lane } = message
    aside.set(position, { message, probing: false, steps: 0, deaths: 0, probeAt: options.now() })
    suspects.acquit(position)
    if (key !== null) keys.hold(keys.ensure(destination, key, lane), position)
  }

  return {
    flights,
    destinations,
    aside,
    settling,
    suspects,

    /** A new connection: what it guarantees decides whether several messages of a key may be in flight. */
    connected: (profile: { readonly pipelined: boolean }) => {
      pipelined = profile.pipelined
    },

    /** A read begins: whatever was released before is visible to it. */
    reading: () => {
      frozen.clear()
      fresh.clear()
      stale = false
    },

    /** Messages that may be read, or taken of what was read, now. */
    room: (): number => {
      if (draining || bytes >= options.bytes) return 0
      // What is confirmed but not recorded would be sent again after a crash, like what is in flight.
      return Math.max(0, suspects.limit() - flights.size - keys.queued() - settling.size)
    },
    roomBytes: (): number => Math.max(1, options.bytes - bytes),
    /** Something is in flight of these lanes. */
    anyOf: (carried: (lane: number) => boolean): boolean => flyingOn(carried).length > 0,
    /** Nothing in flight, in turn or on its way to the database. */
    idle: (): boolean => flights.size === 0 && settling.size === 0 && keys.queued() === 0,
    busy: (lane: number): boolean => busy[lane]! > 0,
    heldKeys: keys.held,

    /** It is on its way or in turn, or its outcome is on its way: whatever was read of it is out of date. */
    known: (message: StoredMessage): boolean => {
      const { position } = message
      if (flights.has(position) || settling.has(position) || fresh.has(position) || aside.has(position))
        return true
      const state = keys.of(message)
      return state !== undefined && keys.waits(state, position)
    },

    /** Takes nothing more into flight: what waits in turn stays with the database. */
    drain: () => {
      draining = true
      for (const message of turn) land(message.position)
      turn = []
      for (const state of keys.all()) keys.dropQueue(state)
    },

    /** Decides whether a message that was read goes now, and if so counts it as in flight. */
    admit: (message: StoredMessage, now = options.now()): boolean => {
      const { position } = message
      if (settling.has(position)) {
        if (judging.has(position)) again.add(position)
        return false
      }
      const refused = fresh.get(position)
      if (refused === true) options.rewind(position)
      if (refused !== undefined || flights.has(position) || aside.has(position)) return false
      if (stale || isFrozen(message)) {
        options.rewind(position)
        return false
      }
      const held = destinations.get(message.destination)
      if (held !== undefined) return leave(held, position)
      const state = keys.of(message)
      if (state !== undefined) {
        if (state.heads.length > 0) {
          if (position !== Math.min(...state.heads) || state.flying > 0) return leave(state, position)
        } else if (state.lowest !== Number.POSITIVE_INFINITY) {
          return leave(state, position)
        } else if (!pipelined && (state.flying > 0 || (state.queue?.length ?? 0) > 0)) {
          return keys.waits(state, position) || keys.enqueue(state, message) ? false : leave(state, position)
        }
      }
      take(message, state, now)
      return true
    },

    turnReady: (): boolean => turn.length > 0,
    /** Messages whose turn has come since the last call; they count as in flight already. */
    nextInTurn: (): ReadonlyArray<StoredMessage> => {
      const messages = turn.filter((message) => flights.has(message.position))
      turn = []
      return messages
    },

    /** The broker has it. Gives false when it was settled before. */
    confirmed: (message: StoredMessage): boolean => {
      if (settling.has(message.position)) return false
      settling.add(message.position)
      busy[message.lane]!++
      suspects.acquit(message.position)
      aside.delete(message.position)
      // A probe is none of the flights.
      const state = flights.get(message.position)?.key ?? keys.of(message)
      if (state !== undefined) keys.unhold(state, (head) => head === message.position)
      land(message.position)
      releaseDestination(message.destination)
      advance(state)
      return true
    },

    /** It is given up: its key goes on when that is recorded. */
    dead: (message: StoredMessage): boolean => judge(message, true),

    /** It was refused this time: it holds its key until it is published or dead. */
    refused: (message: StoredMessage): boolean => judge(message, false),

    /**
     * Takes note of the refused messages that hold keys of these lanes; lets keys go on whose refused message is no longer
     * pending (a late confirmation of another relay, an operator).
     */
    hold: (refused: ReadonlyArray<RefusedMessage>, lanes: ReadonlySet<number>) => {
      const pending = new Set<number>()
      for (const { position, lane, destination, key } of refused) {
        pending.add(position)
        keys.hold(keys.ensure(destination, key, lane), position)
      }
      for (const state of [...keys.all()]) {
        if (!lanes.has(state.lane) || state.heads.length === 0) continue
        keys.unhold(
          state,
          (head) =>
            !(
              pending.has(head) ||
              flights.has(head) ||
              settling.has(head) ||
              fresh.has(head) ||
              aside.has(head)
            ),
        )
        if (state.heads.length === 0 && state.flying === 0) release(state)
      }
    },

    /**
     * The destination is in trouble: takes everything for it out of flight and holds it. Gives the held destination when a
     * pause begins: at the first refusal and after a refused probe.
     */
    holdDestination: (message: StoredMessage, words: string): HeldDestination | undefined => {
      const known = destinations.get(message.destination)
      const wasProbe = known?.probing === true && known.probe.position === message.position
      const held: HeldDestination = known ?? {
        since: options.now(),
        words,
        probe: message,
        probing: false,
        steps: 0,
        lowest: message.position,
        probeAt: undefined,
      }
      destinations.set(message.destination, held)
      if (message.position < held.probe.position) held.probe = message
      held.words = words
      for (const flight of [...flights.values()]) {
        if (flight.message.destination !== message.destination) continue
        land(flight.message.position)
        suspects.excuse(flight.message.position)
        held.lowest = Math.min(held.lowest, flight.message.position)
        if (flight.message.position < held.probe.position) held.probe = flight.message
      }
      for (const state of [...keys.at(message.destination)]) {
        keys.dropQueue(state)
        held.lowest = Math.min(held.lowest, state.lowest)
        if (state.heads.length === 0) keys.forget(state)
      }
      suspects.excuse(message.position)
      if (known !== undefined && !wasProbe) return undefined
      held.probeAt = undefined
      held.steps++
      return held
    },

    /** The pause of what is held, or set aside, is over: this message is tried. It is in flight apart from the others, until `probed`. */
    probe: (held: HeldDestination | SetAside, message: StoredMessage) => {
      held.probing = true
      held.probeAt = undefined
      busy[message.lane]!++
    },

    /** The probe's outcome has been applied. */
    probed: (held: HeldDestination | SetAside, message: StoredMessage) => {
      held.probing = false
      busy[message.lane]!--
    },

    /**
     * The connection is gone: all in flight is unknown and is read again. `unnamed`: it died over something it did not
     * name. `silently`: so it seems, but it may have been an outage; what was alone in flight then is set aside.
     * `carried`: of these lanes were the messages on the connection over which all ended.
     */
    lost: (end: "known" | "unnamed" | "silently", carried: (lane: number) => boolean = () => true): Lost => {
      const none = { alone: undefined, deaths: 0 }
      const accused = end === "known" ? none : suspects.accuse(flyingOn(carried))
      const suspect = end === "silently" ? accused.alone : undefined
      let lowest = Number.POSITIVE_INFINITY
      for (const { message } of [...flights.values()]) {
        lowest = Math.min(lowest, message.position)
        land(message.position)
      }
      if (suspect !== undefined) setAside(suspect)
      for (const state of [...keys.all()]) {
        keys.dropQueue(state)
        lowest = Math.min(lowest, state.lowest)
        if (state.heads.length === 0) keys.forget(state)
      }
      turn = []
      stale = true
      if (lowest !== Number.POSITIVE_INFINITY) options.rewind(lowest)
      return suspect === undefined ? { ...accused, aside: undefined } : { ...none, aside: suspect }
    },

    /** The outcome is in the database; `inVain`: the message is no longer pending, or the lane no longer ours. */
    settled: (messages: Iterable<StoredMessage>, inVain = false) => {
      for (const message of messages) {
        const { position } = message
        if (!settling.delete(position)) continue
        busy[message.lane]!--
        const judged = judging.get(position)
        judging.delete(position)
        if (!inVain) fresh.set(position, judged?.dead === false)
        if (judged !== undefined && (judged.dead || inVain)) {
          const state = keys.of(message)
          if (state !== undefined) keys.unhold(state, (head) => head === position)
          advance(state)
        }
        if (again.delete(position) || inVain) options.rewind(position)
      }
    },

    /** Lanes that this relay holds no more: forgets what holds their keys, but for what is still on its way. */
    dropLanes: (lanes: ReadonlySet<number>) => {
      for (const state of [...keys.all()]) {
        if (!lanes.has(state.lane)) continue
        keys.dropQueue(state)
        keys.unhold(state, (head) => !judging.has(head))
        // What is still in flight keeps its key from having two.
        if (state.flying === 0 && state.heads.length === 0) keys.forget(state)
      }
      suspects.dropLanes(lanes)
      for (const [position, { message }] of aside) if (lanes.has(message.lane)) aside.delete(position)
      for (const [destination, held] of [...destinations])
        if (lanes.has(held.probe.lane)) releaseDestination(destination)
    },

    /** The lease is gone: forgets everything but what is on its way to the database. */
    clear: () => {
      for (const position of [...flights.keys()]) land(position)
      keys.clear()
      for (const [position, { message }] of judging)
        if (message.key !== null)
          keys.hold(keys.ensure(message.destination, message.key, message.lane), position)
      destinations.clear()
      aside.clear()
      suspects.clear()
      turn = []
      stale = true
    },
  }
}
