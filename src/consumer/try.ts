/** One try of a message: its claim, its handler and its record, in one transaction. */
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import { type Arrival, type Claim, type Inbox, type InboxScope, RolledBack } from "../inbox/inbox.ts"
import type { AnyTransaction } from "../outbox/append.ts"
import { carryOn } from "../outbox/carry.ts"
import type { StoreError } from "../store/error.ts"
import type { Definition } from "./definition.ts"
import { type Delivery, makeDelivery, settledOf } from "./delivery.ts"
import { callHandler, Ending } from "./handler.ts"
import { causationOf, eventOf } from "./identity.ts"
import type { Message, Work } from "./message.ts"
import { Reject } from "./outcome.ts"

/** A message on its way through. */
export interface Passage {
  readonly arrival: Arrival
  readonly body: unknown
  readonly attempts: number
  readonly parked: boolean
  /** How often its handler was begun without an end, as the inbox said; undefined for a delivery. */
  readonly started: number | undefined
  /** False once nothing that is done with it reaches the broker. */
  readonly live: () => boolean
  /** Called when its handler has succeeded, before its commit. */
  readonly handled: (() => void) | undefined
  /** Acknowledges it, where there is a delivery to acknowledge. */
  readonly settle: () => void
}

const workOf = (tx: AnyTransaction, ending: Ending): Work => ({
  tx,
  get signal() {
    return ending.signal
  },
})

/**
 * The tries of a consumer's messages. Each fails with `RolledBack` when the handler did, and with `StoreError` when the
 * database went away; `onCall` tells that the handler is about to be called.
 */
export const makeTries = ({
  definition: { settings, handle },
  context,
  inbox,
  scope,
  startedHere,
}: {
  readonly definition: Definition
  readonly context: Context.Context<never>
  readonly inbox: Inbox["Service"]
  readonly scope: InboxScope
  /** Messages whose start is recorded, and so is to end with their try. */
  readonly startedHere: ReadonlyMap<string, number>
}) => {
  const { timeoutMillis } = settings

  const transact = <A>(
    body: (tx: AnyTransaction, ending: Ending, claims: ReadonlyArray<Claim>) => Promise<A>,
    arrivals: ReadonlyArray<Arrival> = [],
    onCommit?: () => void,
  ): Effect.Effect<A, StoreError | RolledBack> =>
    Effect.catch(attempt(body, arrivals, onCommit), (failure) =>
      failure._tag === "RolledBack" && failure.again === true
        ? transact(body, arrivals, onCommit)
        : Effect.fail(failure),
    )

  const attempt = <A>(
    body: (tx: AnyTransaction, ending: Ending, claims: ReadonlyArray<Claim>) => Promise<A>,
    arrivals: ReadonlyArray<Arrival>,
    onCommit: (() => void) | undefined,
  ) =>
    Effect.suspend(() => {
      const ending = new Ending()
      const claim = { scope, arrivals, ordered: settings.ordered }
      return inbox
        .transact((tx, claims) => body(tx, ending, claims), {
          statementMillis: timeoutMillis,
          claim,
          ...(onCommit !== undefined && { onCommit }),
        })
        .pipe(Effect.onInterrupt(() => Effect.sync(() => ending.abort())))
    })

  const messageOf = ({ arrival, body, attempts }: Passage): Message => {
    const { headers } = arrival
    return {
      body,
      id: arrival.messageId,
      event: eventOf(arrival),
      eventId: headers["outbox-event-id"],
      operation: headers["outbox-operation"],
      destination: arrival.destination,
      key: arrival.key,
      headers,
      attempt: attempts + 1,
      cause: causationOf(arrival),
    }
  }

  const call = async (
    tx: AnyTransaction,
    ending: Ending,
    passages: ReadonlyArray<Passage>,
    onCall: () => void,
  ): Promise<void> => {
    if (handle._tag !== "Messages") return
    onCall()
    const messages = passages.map(messageOf)
    const [only] = messages
    if (messages.length === 1 && only !== undefined) carryOn(tx, only.cause)
    await callHandler((ending) => handle.call(messages, workOf(tx, ending)), {
      context,
      tx,
      timeoutMillis,
      ending,
    })
  }

  /** One transaction: claims, parking behind what is parked, and the handler for what is fresh. */
  const handleNew = (passages: ReadonlyArray<Passage>, onCall: () => void = () => {}) => {
    const arrivals = passages.map(({ arrival }) => arrival)
    return transact(
      async (tx, ending, claims) => {
        for (const [index, arrival] of arrivals.entries()) {
          if (claims[index] === "behind") await parkBehind(tx, arrival)
        }
        const fresh = passages.filter((_, index) => claims[index] === "fresh")
        if (fresh.length > 0) await call(tx, ending, fresh, onCall)
        return claims
      },
      arrivals,
      passages[0]?.handled,
    )
  }

  const handleParked = (passage: Passage, onCall: () => void) =>
    transact(async (tx, ending): Promise<ReadonlyArray<Claim>> => {
      if (!(await inbox.resume(tx, scope, passage.arrival.messageId))) return ["settled"]
      await call(tx, ending, [passage], onCall)
      return ["fresh"]
    })

  const parkBehind = (tx: AnyTransaction, arrival: Arrival) =>
    inbox.park(tx, scope, arrival, { attempts: 0, error: null, retryInMillis: null })

  /** Calls a handler that opens its own transaction. */
  const handleDelivery = (deliver: (delivery: Delivery) => unknown, passage: Passage, onCall: () => void) =>
    Effect.gen(function* () {
      const { arrival, parked } = passage
      const claim = async (tx: AnyTransaction): Promise<Claim> => {
        if (parked) return (await inbox.resume(tx, scope, arrival.messageId)) ? "fresh" : "settled"
        return (await inbox.claim(tx, scope, [arrival], settings.ordered))[0] as Claim
      }
      if (!parked) {
        const found = yield* inbox.look(scope, arrival, settings.ordered)
        if (found === "behind") yield* transact((tx) => parkBehind(tx, arrival))
        if (found !== "fresh") return [found]
      }
      let saved = false
      const ending = new Ending()
      onCall()
      const returned = yield* Effect.tryPromise({
        try: () =>
          callHandler(
            ({ signal }) =>
              deliver(
                makeDelivery(arrival, passage.attempts + 1, signal, async (tx) => {
                  saved = true
                  const found = await claim(tx)
                  // Its key has parked messages since it was looked at: it waits behind them, whatever else the handler says.
                  if (found === "behind") await parkBehind(tx, arrival)
                  return found
                }),
              ),
            { context, tx: undefined, timeoutMillis, ending },
          ),
        catch: (cause) => new RolledBack({ cause }),
      }).pipe(Effect.onInterrupt(() => Effect.sync(() => ending.abort())))
      const settled = settledOf(returned)
      if (settled === undefined) {
        const cause = new Error("its handler settled nothing: return delivery.ack() or delivery.nack()")
        return yield* new RolledBack({ cause })
      }
      if (settled._tag === "Dead")
        return yield* new RolledBack({ cause: new Reject({ reason: settled.reason }) })
      // What waits in the inbox ends there; what does not has no record, as its handler saved none.
      if (!saved && (parked || startedHere.has(arrival.messageId))) yield* transact(claim)
      return ["fresh" as const]
    })

  const tryOnce = (
    passage: Passage,
    onCall: () => void,
  ): Effect.Effect<ReadonlyArray<Claim>, StoreError | RolledBack> =>
    handle._tag === "Delivery"
      ? handleDelivery(handle.call, passage, onCall)
      : passage.parked
        ? handleParked(passage, onCall)
        : handleNew([passage], onCall)

  return { transact, handleNew, tryOnce }
}
