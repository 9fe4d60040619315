/** Reads what may leave and sends it: the relay's main loop. */
import * as Effect from "effect/Effect"
import type { StoredMessage } from "../store/store.ts"
import { apply, type RelayState, send } from "./state.ts"

/** Shortest pause between polls, in milliseconds, right after messages were found or a nudge came. */
const EAGER_MILLIS = 2
/** How much longer each empty poll makes the next pause: a commit that comes after its nudge waits for a quarter of the time between them at the most. */
const SLOWER = 1.25
/** After a read that found all there was, a nudge waits for so many times as long as that took, and so many milliseconds at the most: nudges may come faster than anybody can read. */
const BREATH = 1
const LONGEST_BREATH_MILLIS = 2
/** For so many milliseconds after a read the next one waits for room for a full batch, or for a quarter of the window: the rest of it keeps the broker busy. */
const FULL_MILLIS = 100
/** Pause between looks for what is due, and for the writers that keep gaps open, in milliseconds. */
const DUE_MILLIS = 1000
const WRITERS_MILLIS = 100
/** Pause between looks whether the messages that hold keys are still pending: somebody else may have settled them. */
const HELD_MILLIS = 2000
/** Everything ready is read again after so long, in case a message was made ready behind the relay's back. */
const SWEEP_MILLIS = 300_000

/** Reads and sends until it is interrupted; calls `drained` whenever there is nothing left to do. */
export const readLoop = Effect.fnUntraced(function* (state: RelayState, drained: Effect.Effect<void>) {
  let pause = EAGER_MILLIS
  let readAt = Number.NEGATIVE_INFINITY
  let breathUntil = Number.NEGATIVE_INFINITY
  /** A read waits for that. */
  let postponed = false
  let dueAt = 0
  let writersAt = 0
  let heldAt = 0
  let warned = ""
  let sweptAt = state.now()

  /** One round; true when another may find more at once. */
  const round = Effect.fnUntraced(function* () {
    const now = state.now()
    postponed = false
    const full = Math.min(state.settings.batch, state.settings.window / 4)
    const least =
      state.window.suspects.any() || state.window.flights.size === 0
        ? 1
        : now - readAt < FULL_MILLIS
          ? full
          : full / 4
    state.hunger = least
    if (state.connection === undefined || readable(state).length === 0) return false

    send(state, state.window.nextInTurn())
    const room = state.window.room()
    if (room < least) return false
    state.hunger = 0
    postponed = now < breathUntil
    if (postponed) return false

    let promoted = 0
    if (now >= dueAt) {
      const held = new Map([...state.lanes].filter(([lane]) => !state.leaving.has(lane)))
      const limit = Math.min(room, state.settings.batch)
      const due = yield* state.store.promote(held, limit)
      promoted = due.length
      dueAt = promoted < limit ? state.now() + DUE_MILLIS : 0
      // What the reading has not come to yet is ready now, and is found in its turn.
      dispatch(
        state,
        due.filter(({ position }) => state.cursor.passed(position)),
      )
    }
    if (state.window.heldKeys() > 0 && now >= heldAt) {
      const lanes = readable(state)
      state.window.hold(yield* state.store.refused(lanes), new Set(lanes))
      heldAt = state.now() + HELD_MILLIS
    }
    if (state.cursor.uncertain() && now >= writersAt) {
      state.cursor.observe(yield* state.store.writers)
      writersAt = state.now() + WRITERS_MILLIS
    }
    if (now - sweptAt >= SWEEP_MILLIS) {
      sweptAt = now
      state.cursor.rewind(1)
    }

    const limit = Math.max(1, Math.min(room, state.settings.batch))
    readAt = now
    state.window.reading()
    // Nothing may come between the lanes and the beginning of the pass: lanes gained in between would be passed over.
    const lanes = readable(state)
    const pass = state.cursor.begin()
    const result = yield* state.store.read({
      ...pass,
      lanes,
      limit,
      bytes: state.window.roomBytes(),
    })
    const millis = state.now() - now
    warned = ""
    state.cursor.absorb(result)
    const messages: StoredMessage[] = []
    for (const { message } of result.seen) if (message !== undefined) messages.push(message)
    const sent = dispatch(state, messages)
    if (sent > 0 || promoted > 0) pause = EAGER_MILLIS
    const more = result.full || pass.from < pass.cursor || state.cursor.behind() || promoted > 0
    if (!more) breathUntil = state.now() + Math.min(LONGEST_BREATH_MILLIS, BREATH * millis)
    return more && state.brokerState !== "blocked"
  })

  while (true) {
    state.wake.lower()
    if (state.nudged) pause = EAGER_MILLIS
    state.nudged = false
    const more = yield* round().pipe(
      Effect.catch((error) => {
        // The statement may have been carried out all the same: what it made ready is read from the beginning.
        state.cursor.rewind(1)
        const news = error.message !== warned
        warned = error.message
        return Effect.as(
          Effect.andThen(news ? Effect.logWarning(error.message) : Effect.void, Effect.sleep(500)),
          true,
        )
      }),
    )
    if (more) {
      // A read without I/O would not let the broker's receipts in.
      yield* Effect.yieldNow
      continue
    }
    if (
      !postponed &&
      state.window.idle() &&
      !state.cursor.behind() &&
      state.confirmed.length + state.judged.length === 0
    )
      yield* drained
    const wait = postponed
      ? Math.max(1, Math.ceil(breathUntil - state.now()))
      : Math.min(
          pause,
          state.hunger > 0 ? FULL_MILLIS : Number.POSITIVE_INFINITY,
          state.cursor.uncertain() ? WRITERS_MILLIS : state.settings.pollMillis,
        )
    if (!postponed) pause = Math.min(pause * SLOWER, state.settings.pollMillis)
    yield* state.wake.await.pipe(Effect.timeoutOption(wait))
  }
})

const readable = (state: RelayState): ReadonlyArray<number> =>
  [...state.lanes.keys()].filter((lane) => !state.leaving.has(lane))

/** Sends what may go of messages in order of position, and gives how many went. */
const dispatch = (state: RelayState, messages: ReadonlyArray<StoredMessage>): number => {
  const flying = state.brokerState === "blocked" ? destinationsInFlight(state) : undefined
  const batch: StoredMessage[] = []
  const now = state.now()
  for (const message of messages) {
    if (!state.lanes.has(message.lane) || state.leaving.has(message.lane)) continue
    if (state.connection === undefined || flying?.has(message.destination) || state.window.room() === 0) {
      state.cursor.rewind(message.position)
      continue
    }
    if (message.expired && !state.window.known(message)) {
      apply(state, message, {
        _tag: "Expired",
        words: "its time to live was over before it could be published",
      })
      continue
    }
    if (!state.window.admit(message, now)) continue
    batch.push(message)
    // A blocked broker is tried with one message for each destination that has none in flight: it may be they, not it.
    flying?.add(message.destination)
  }
  if (!send(state, batch)) state.cursor.rewind(batch[0]?.position ?? Number.POSITIVE_INFINITY)
  return batch.length
}

const destinationsInFlight = (state: RelayState): Set<string> =>
  new Set([...state.window.flights.values()].map((flight) => flight.message.destination))
