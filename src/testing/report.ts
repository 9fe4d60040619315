/** What a drain did, and what went wrong in it. */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import type { Handle } from "../consumer/definition.ts"
import type { Arrival, Inbox, InboxScope } from "../inbox/inbox.ts"

export interface DrainReport {
  /** Messages that left the outbox. */
  readonly published: number
  /** Messages whose handler succeeded; one that two consumers handled counts twice. */
  readonly handled: number
  /** Deliveries of what was handled, parked or dead before. */
  readonly duplicates: number
  /** Failed tries. */
  readonly failed: number
  /** Messages that died: rejected, undecodable, out of tries, or in the outbox for their time to live. */
  readonly dead: number
  /** Messages that wait in the inbox at its end: for their retry, or behind one of their key. */
  readonly parked: number
  /** Every failed try and every death, in their order. Empty when all went well: `expect(report.failures).toEqual([])`. */
  readonly failures: ReadonlyArray<Mishap>
}

/** A try that failed, or a death. */
export interface Mishap {
  /** Null for what died in the outbox. */
  readonly consumer: string | null
  readonly id: string
  readonly event: string | undefined
  readonly destination: string
  readonly key: string | null
  /** Counted tries by now. */
  readonly attempts: number
  /** What became of it. */
  readonly outcome: "parked" | "dead"
  readonly error: string
  /** What the handler threw, with its stack. */
  readonly cause?: unknown
}

/** Watches a kit's handlers and inbox. */
export interface Watch {
  readonly failures: Array<Mishap>
  /** The same handler; what it throws is remembered for the failure that it leads to. */
  readonly handle: (handle: Handle) => Handle
  /** The same inbox; what is parked with an error or buried is a failure. */
  readonly inbox: (inbox: Inbox["Service"]) => Inbox["Service"]
}

/** `onLater` is told what was parked for a later time. */
export const makeWatch = (onLater: (scope: InboxScope, messageId: string) => void): Watch => {
  const failures: Array<Mishap> = []
  let thrown: { readonly cause: unknown } | undefined
  const remember = (cause: unknown) => {
    thrown = { cause }
  }
  const watched =
    <Args extends ReadonlyArray<unknown>>(call: (...args: Args) => unknown) =>
    (...args: Args): unknown => {
      thrown = undefined
      try {
        const result = call(...args)
        if (Effect.isEffect(result))
          return Effect.tapCause(result, (cause) => Effect.sync(() => remember(Cause.squash(cause))))
        return isThenable(result) ? tapRejection(result, remember) : result
      } catch (cause) {
        remember(cause)
        throw cause
      }
    }
  const record = (
    { consumer }: InboxScope,
    arrival: Arrival,
    rest: Pick<Mishap, "attempts" | "outcome" | "error">,
  ) => {
    failures.push({
      consumer,
      id: arrival.messageId,
      event: arrival.headers["outbox-event"],
      destination: arrival.destination,
      key: arrival.key,
      ...rest,
      ...thrown,
    })
    thrown = undefined
  }
  return {
    failures,
    handle: (handle) =>
      handle._tag === "Messages"
        ? { _tag: "Messages", call: watched(handle.call) }
        : { _tag: "Delivery", call: watched(handle.call) },
    inbox: (inbox) => ({
      ...inbox,
      park: async (tx, scope, arrival, parking) => {
        await inbox.park(tx, scope, arrival, parking)
        const { attempts, error, retryInMillis } = parking
        if (retryInMillis !== null && retryInMillis > 0) onLater(scope, arrival.messageId)
        if (error !== null) record(scope, arrival, { attempts, outcome: "parked", error })
      },
      bury: async (tx, scope, arrival, death) => {
        const died = await inbox.bury(tx, scope, arrival, death)
        if (died) record(scope, arrival, { ...death, outcome: "dead" })
        return died
      },
    }),
  }
}

const tapRejection = async <A>(promise: PromiseLike<A>, tap: (cause: unknown) => void): Promise<A> => {
  try {
    return await promise
  } catch (cause) {
    tap(cause)
    throw cause
  }
}

const isThenable = (value: unknown): value is PromiseLike<unknown> =>
  typeof value === "object" && value !== null && "then" in value && typeof value.then === "function"
