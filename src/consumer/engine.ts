/** What becomes of a delivery: claimed, handled and recorded in one transaction, then acknowledged. */
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Semaphore from "effect/Semaphore"
import type { Arrival, Claim, Inbox, InboxScope, Parked, Parking, RolledBack } from "../inbox/inbox.ts"
import { pauseAfter } from "../relay/backoff.ts"
import type { StoreError } from "../store/error.ts"
import type { Admitted } from "./admission.ts"
import { deadLetterOf } from "./dead-letter.ts"
import { wordsOf } from "./decode.ts"
import type { Definition } from "./definition.ts"
import { type Failure, failureOf } from "./handler.ts"
import { eventOf } from "./identity.ts"
import type { Pause } from "./pause.ts"
import { makeTries, type Passage } from "./try.ts"

export interface Counts {
  handled: number
  duplicates: number
  failed: number
  dead: number
}

export interface Engine {
  /** Works on a delivery until it is settled; `handled` is called before its commit. Interrupted, it leaves it to the broker. */
  readonly receive: (admitted: Admitted, handled?: () => void) => Effect.Effect<void>
  /** Works on several in one transaction, one by one where that fails. */
  readonly receiveBatch: (batch: ReadonlyArray<Admitted>) => Effect.Effect<void>
  /** Tries a parked message again; with `probe` a failure is not counted. True when it succeeded. */
  readonly retry: (parked: Parked, probe: boolean) => Effect.Effect<boolean>
}

/** By what an operator finds a message. */
const namesOf = (arrival: Arrival) => ({
  id: arrival.messageId,
  event: eventOf(arrival),
  destination: arrival.destination,
  key: arrival.key,
})

/** So many lost connections in a row, with a database that answers in between, are the message's own doing. */
const MAX_LOSSES = 5

export const makeEngine = (options: {
  readonly definition: Definition
  readonly context: Context.Context<never>
  readonly inbox: Inbox["Service"]
  readonly pause: Pause
  readonly counts: Counts
  /** Something was parked, or the next of a key became due. */
  readonly onParked: () => void
}): Engine => {
  const { definition, inbox, pause, counts, context } = options
  const { settings, handle } = definition
  const { timeoutMillis } = settings
  const scope: InboxScope = {
    consumer: settings.consumer,
    queue: settings.queue,
    ordered: settings.ordered,
  }
  /** A handler without a transaction of the consumer's is seen by nobody while it runs. */
  const keepMillis = handle._tag === "Delivery" ? timeoutMillis + 5000 : undefined
  const oneAtATime = Semaphore.makeUnsafe(1)
  /** Started in this process without an orderly end so far: no crash, whatever happened to the database. */
  const startedHere = new Map<string, number>()
  /** How often in a row a message's transaction lost its connection. */
  const losses = new Map<string, number>()

  const { transact, handleNew, tryOnce } = makeTries({ definition, context, inbox, scope, startedHere })

  /** Runs a statement of the inbox's own until the database has taken it; undefined when nothing waits for it any more. */
  const persist = <A>(live: () => boolean, write: Effect.Effect<A, StoreError | RolledBack>) =>
    Effect.gen(function* () {
      while (live()) {
        const written = yield* Effect.result(write)
        if (Result.isSuccess(written)) return written.success
        const { failure } = written
        pause.databaseAway(failure._tag === "StoreError" ? failure.message : wordsOf(failure.cause))
        yield* pause.gate
      }
      return undefined
    })

  const orderlyEnd = ({ arrival, settle }: Passage) => {
    startedHere.delete(arrival.messageId)
    losses.delete(arrival.messageId)
    settle()
  }

  const bury = Effect.fnUntraced(function* (passage: Passage, attempts: number, error: string) {
    const { arrival } = passage
    const died = yield* persist(
      passage.live,
      transact(async (tx) => {
        const died = await inbox.bury(tx, scope, arrival, { attempts, error })
        if (died && settings.deadLetter !== null) {
          await inbox.emit(tx, deadLetterOf(arrival, settings, settings.deadLetter, attempts, error))
        }
        return died
      }),
    )
    if (died === undefined) return
    orderlyEnd(passage)
    options.onParked()
    if (!died) return
    counts.dead++
    yield* Effect.logError("a message is dead").pipe(
      Effect.annotateLogs({ ...namesOf(arrival), attempts, error }),
    )
  })

  const parkNow = (arrival: Arrival, parking: Parking) =>
    transact(async (tx) => {
      await inbox.park(tx, scope, arrival, parking)
      return true
    })

  const park = Effect.fnUntraced(function* (
    passage: Passage,
    attempts: number,
    error: string | null,
    retryInMillis: number,
  ) {
    if (yield* persist(passage.live, parkNow(passage.arrival, { attempts, error, retryInMillis }))) {
      orderlyEnd(passage)
      options.onParked()
    }
  })

  const judge = Effect.fnUntraced(function* (passage: Passage, failure: Failure, probe: boolean) {
    const { arrival } = passage
    if (failure._tag !== "Failed") {
      // The handler has an opinion: what it calls is there.
      pause.succeeded()
      return yield* failure._tag === "Rejected"
        ? bury(passage, passage.attempts + 1, failure.words)
        : park(passage, passage.attempts, null, failure.millis)
    }
    counts.failed++
    const counted = pause.failed(arrival.key ?? arrival.messageId, failure.words) && !probe
    const attempts = passage.attempts + (counted ? 1 : 0)
    yield* Effect.logWarning("a handler failed").pipe(
      Effect.annotateLogs({
        ...namesOf(arrival),
        attempts,
        error: failure.words,
        ...(failure.stack !== undefined && { stack: failure.stack }),
      }),
    )
    if (counted && attempts >= settings.maxAttempts) return yield* bury(passage, attempts, failure.words)
    yield* park(passage, attempts, failure.words, yield* pauseAfter(settings.retry, Math.max(1, attempts)))
  })

  const settleClaim = (passage: Passage, claim: Claim | undefined) => {
    if (claim === "fresh") {
      counts.handled++
      pause.succeeded()
      if (passage.parked) options.onParked()
    } else if (claim === "settled") {
      counts.duplicates++
    }
    orderlyEnd(passage)
  }

  /** Tries until there is an outcome; a parked message is tried once. True when its effect was committed. */
  const work = Effect.fnUntraced(function* (passage: Passage, probing: boolean) {
    const { messageId } = passage.arrival
    for (let probe = probing; ; probe = yield* pause.gate) {
      if (!passage.live()) return false
      let called = false
      const onCall = () => {
        called = true
      }
      const tried = yield* Effect.result(tryOnce(passage, onCall))
      if (Result.isSuccess(tried)) {
        settleClaim(passage, tried.success[0])
        return tried.success[0] === "fresh"
      }
      const { failure } = tried
      if (failure._tag === "RolledBack") {
        yield* judge(passage, failureOf(failure.cause), probe)
        return false
      }
      // What the database was away for before its handler began says nothing about the message.
      const lost = (losses.get(messageId) ?? 0) + (called || !failure.isRetryable ? 1 : 0)
      if (lost > 0) losses.set(messageId, lost)
      if (lost >= MAX_LOSSES) {
        losses.delete(messageId)
        const words = `the database failed ${lost} times in a row while it was handled: ${failure.message}`
        yield* judge(passage, { _tag: "Failed", words }, probe)
        return false
      }
      pause.databaseAway(failure.message)
      if (passage.parked) return false
    }
  })

  /** How often its handler was begun without an end, this time included; 0 when that has ended, or was not `before` times. */
  const recordStart = Effect.fnUntraced(function* ({ arrival, live }: Passage, before: number | undefined) {
    const starts = yield* persist(live, inbox.start(scope, arrival, before, keepMillis))
    if (starts !== undefined && starts > 0) startedHere.set(arrival.messageId, starts)
    return starts
  })

  /** Works on what is recorded as begun. */
  const watched = (passage: Passage, probe: boolean) =>
    work(passage, probe).pipe(
      // Its process is stopped, not taken down: an end as orderly as any.
      Effect.onInterrupt(() =>
        parkNow(passage.arrival, { attempts: passage.attempts, error: null, retryInMillis: 0 }).pipe(
          Effect.map(() => orderlyEnd(passage)),
          Effect.ignore,
        ),
      ),
    )

  /** Works on what was begun in vain before. */
  const beginAgain = Effect.fnUntraced(function* (passage: Passage, probe: boolean) {
    if (!startedHere.has(passage.arrival.messageId)) {
      const starts = yield* recordStart(passage, passage.started)
      // Of what is parked, another instance has begun it.
      if (starts === undefined || (starts === 0 && passage.parked)) return false
      if (starts > settings.maxStarts) {
        const words = `its handler was begun ${settings.maxStarts} times and never ended: it takes its process down`
        yield* bury(passage, passage.attempts, words)
        return false
      }
    }
    return yield* watched(passage, probe)
  })

  /** Works on what may take the process down: its start is recorded before; what was begun in vain before runs beside nothing of its kind. */
  const guarded = Effect.fnUntraced(function* (passage: Passage, probe: boolean) {
    const { arrival, live, parked, started = 0 } = passage
    const starts = startedHere.get(arrival.messageId) ?? (started > 0 ? 0 : yield* recordStart(passage, 0))
    if (starts === undefined || (starts === 0 && parked && started === 0)) return false
    if (starts === 1) return yield* watched(passage, probe)
    // A repeat of what has ended waits for nobody.
    if (starts === 0 && !parked && (yield* persist(live, inbox.look(scope, arrival, false))) === "settled")
      return yield* work(passage, probe)
    // Its next start is recorded when it is its turn: what takes the process down now must not count against those that wait.
    const alone = beginAgain(passage, probe)
    if (!parked || !probe) return yield* oneAtATime.withPermit(alone)
    // The probe of a pause must not wait for what the pause holds.
    return Option.getOrElse(yield* oneAtATime.withPermitsIfAvailable(1)(alone), () => false)
  })

  /** Most schemas answer at once, and then nobody waits. */
  const decode = (body: Uint8Array, headers: Readonly<Record<string, string>>) =>
    Effect.flatMap(Effect.try({ try: () => definition.decode(body, headers), catch: wordsOf }), (decoded) =>
      decoded instanceof Promise
        ? Effect.tryPromise({ try: (): Promise<unknown> => decoded, catch: wordsOf })
        : Effect.succeed(decoded),
    )

  /** With its body decoded; undefined when it has none that can be, and is dead for it. */
  const decoded = Effect.fnUntraced(function* (passage: Passage) {
    if (handle._tag === "Delivery") return passage
    const { body, headers } = passage.arrival
    const read = yield* Effect.result(decode(body, headers))
    if (Result.isSuccess(read)) return { ...passage, body: read.success }
    yield* bury(passage, passage.attempts, read.failure)
    return undefined
  })

  const passageOf = Effect.fnUntraced(function* (
    { arrival, fault, incoming, live }: Admitted,
    handled?: () => void,
  ) {
    const passage: Passage = {
      arrival,
      body: undefined,
      attempts: 0,
      parked: false,
      started: undefined,
      live,
      handled,
      settle: incoming.ack,
    }
    if (fault === undefined) return yield* decoded(passage)
    yield* bury(passage, 0, fault)
    return undefined
  })

  return {
    receive: Effect.fnUntraced(function* (admitted: Admitted, handled?: () => void) {
      if (!admitted.live()) return
      const passage = yield* passageOf(admitted, handled)
      if (passage === undefined) return
      const probe = yield* pause.gate
      if (passage.live()) yield* admitted.suspect ? guarded(passage, probe) : work(passage, probe)
    }),
    receiveBatch: Effect.fnUntraced(function* (batch: ReadonlyArray<Admitted>) {
      yield* pause.gate
      const passages: Array<Passage> = []
      for (const admitted of batch) {
        const passage = admitted.live() ? yield* passageOf(admitted) : undefined
        if (passage !== undefined) passages.push(passage)
      }
      if (passages.length === 0) return
      const tried = yield* Effect.result(handleNew(passages))
      if (Result.isSuccess(tried)) {
        for (const [index, passage] of passages.entries()) settleClaim(passage, tried.success[index])
        return
      }
      // One bad message must not take its neighbours along.
      for (const passage of passages) yield* work(passage, yield* pause.gate)
    }),
    retry: Effect.fnUntraced(function* ({ arrival, attempts, started }: Parked, probe: boolean) {
      const passage = yield* decoded({
        arrival,
        body: undefined,
        attempts,
        parked: true,
        started,
        live: () => true,
        handled: undefined,
        settle: () => {},
      })
      return passage === undefined ? false : yield* guarded(passage, probe)
    }),
  }
}
