/** Writes outcomes to the store in batches, while the next messages are read and sent. */
import * as Effect from "effect/Effect"
import type { StoredMessage, Verdict } from "../store/store.ts"
import { pauseAfter } from "./backoff.ts"
import { feedReader, type Judgement, type RelayState, verdictOf } from "./state.ts"

/** How long confirmations are gathered while more are on their way, in milliseconds, and how often it is looked meanwhile. */
const GATHER_MILLIS = 20
const LOOK_MILLIS = 5
/** Confirmations that are written without gathering more. */
const BATCH = 250
/** Positions in one statement at the most. */
const MOST = 5000

export const settleLoop = Effect.fnUntraced(function* (state: RelayState) {
  while (true) {
    yield* state.settle.await
    for (let waited = 0; waited < GATHER_MILLIS && gathering(state); waited += LOOK_MILLIS)
      yield* Effect.sleep(LOOK_MILLIS)
    state.settle.lower()
    yield* announce(state)
    if (state.confirmed.length > 0) yield* published(state, state.confirmed.splice(0, MOST))
    if (state.judged.length > 0) yield* judged(state, state.judged.splice(0, MOST))
    if (state.confirmed.length + state.judged.length > 0) state.settle.raise()
  }
})

const gathering = (state: RelayState): boolean =>
  state.confirmed.length < BATCH && state.judged.length === 0 && state.window.flights.size > 0

const published = Effect.fnUntraced(function* (state: RelayState, messages: ReadonlyArray<StoredMessage>) {
  const positions = messages.map((message) => message.position)
  yield* persist(state.store.published(positions, state.settings.retentionMillis > 0))
  state.counts.published += messages.length
  state.window.settled(messages)
  feedReader(state)
})

const judged = Effect.fnUntraced(function* (state: RelayState, judgements: ReadonlyArray<Judgement>) {
  const verdicts = yield* Effect.forEach(judgements, (judgement) => {
    if (judgement.fate !== "retry") return Effect.succeed(verdictOf(state, judgement, judgement.fate))
    return Effect.map(pauseAfter(state.settings.backoff, judgement.attempts), (retryInMillis) =>
      verdictOf(state, judgement, { retryInMillis }),
    )
  })
  const done = yield* persist(
    state.store.judge(verdicts).pipe(
      // One broker's words must not keep every other outcome from being recorded.
      Effect.catch((error) =>
        error.isRetryable ? Effect.fail(error) : state.store.judge(verdicts.map(inPlainWords)),
      ),
    ),
  )
  for (const { message, fate, words, attempts } of judgements) {
    if (!done.has(message.position)) {
      state.counts.fencedOff++
      continue
    }
    const fields = {
      id: message.id,
      event: message.event,
      destination: message.destination,
      key: message.key,
      attempts,
      reason: words,
    }
    if (fate === "dead") {
      state.counts.dead++
      yield* Effect.logWarning("message dead").pipe(Effect.annotateLogs(fields))
    } else if (fate === "retry") {
      state.counts.refused++
      yield* Effect.logInfo("message refused").pipe(Effect.annotateLogs(fields))
    }
  }
  const final = judgements.filter(({ fate }) => fate !== "pending").map(({ message }) => message)
  state.window.settled(final.filter(({ position }) => done.has(position)))
  state.window.settled(
    final.filter(({ position }) => !done.has(position)),
    true,
  )
  feedReader(state)
})

const inPlainWords = (verdict: Verdict): Verdict => ({
  ...verdict,
  words: verdict.words.replace(/[^\x20-\x7e]/g, "?"),
})

/** What the broker has confirmed must be recorded, however long the database is away; a trouble is told once. */
const persist = <A, E extends { readonly message: string }>(
  write: Effect.Effect<A, E>,
  told = "",
): Effect.Effect<A> =>
  Effect.catch(write, ({ message }) =>
    (message === told ? Effect.void : Effect.logWarning(message)).pipe(
      Effect.andThen(Effect.sleep(500)),
      Effect.andThen(Effect.suspend(() => persist(write, message))),
    ),
  )

const announce = (state: RelayState): Effect.Effect<void> =>
  Effect.forEach(
    state.notices.splice(0),
    ({ level, text, fields }) =>
      (level === "warn" ? Effect.logWarning(text) : Effect.logInfo(text)).pipe(Effect.annotateLogs(fields)),
    { discard: true },
  )
