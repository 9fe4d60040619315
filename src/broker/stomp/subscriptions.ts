/** The subscriptions of one connection. Their ids never come back, so that an ack cannot settle somebody else's delivery. */
import { randomUUID } from "node:crypto"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { BrokerError, type Incoming, type Subscription } from "../broker.ts"
import { encodeFrame } from "./frame.ts"
import type { Frame } from "./parser.ts"
import type { StompProfile } from "./profile.ts"
import type { ErrorMeaning } from "./refusal.ts"

export interface Subscriptions {
  readonly subscribe: (
    subscription: Subscription,
    deliver: (message: Incoming) => void,
  ) => Effect.Effect<void, BrokerError, Scope.Scope>
  readonly forget: (subscription: Subscription) => Effect.Effect<void, BrokerError>
  readonly onMessage: (frame: Frame) => void
  readonly onReceipt: (id: string) => void
  /** True when the ERROR was about a subscription that is being made. */
  readonly onError: (receipt: string | undefined, meaning: ErrorMeaning, words: string) => boolean
  /** Deliveries that are not settled yet. */
  readonly held: () => number
  readonly end: (words: string) => void
}

interface Entry {
  readonly id: string
  readonly subscription: Subscription
  readonly deliver: (message: Incoming) => void
  held: number
  /** Settles the call of `subscribe`, once. */
  answer: ((failure: BrokerError | undefined) => void) | undefined
}

export const makeSubscriptions = (connection: {
  readonly profile: StompProfile
  readonly write: (frame: string) => void
  readonly live: () => boolean
  readonly timeout: number
}): Subscriptions => {
  const prefix = randomUUID().slice(0, 8)
  const entries = new Map<string, Entry>()
  let counter = 0

  const failure = ({ subscription }: Entry, words: string) =>
    new BrokerError({
      reason: "subscription",
      message: `the subscription to ${subscription.destination} was rejected: ${words}`,
    })

  const open = (
    subscription: Subscription,
    deliver: (message: Incoming) => void,
    to = connection.profile.subscribe,
  ) =>
    Effect.callback<Entry, BrokerError>((resume) => {
      const id = `s-${prefix}-${++counter}`
      const entry: Entry = { id, subscription, deliver, held: 0, answer: undefined }
      const fail = (error: BrokerError) => {
        close(entry)
        resume(Effect.fail(error))
      }
      const target = to(subscription)
      if (!connection.live()) return fail(failure(entry, "the connection has ended"))
      if (typeof target === "string") return fail(failure(entry, target))
      const timer = setTimeout(() => {
        const message = `no receipt for the subscription to ${subscription.destination} within ${connection.timeout} ms`
        fail(new BrokerError({ reason: "timeout", message }))
      }, connection.timeout)
      entry.answer = (error) => {
        clearTimeout(timer)
        entry.answer = undefined
        if (error === undefined) resume(Effect.succeed(entry))
        else fail(error)
      }
      entries.set(id, entry)
      connection.write(
        encodeFrame("SUBSCRIBE", {
          destination: target.destination,
          id,
          receipt: id,
          ack: "client-individual",
          ...target.headers,
          ...subscription.headers,
        }),
      )
      return Effect.sync(() => {
        clearTimeout(timer)
        close(entry)
      })
    })

  const close = ({ id }: Entry) => {
    // Without `durable`: RabbitMQ would delete the queue.
    if (entries.delete(id) && connection.live()) connection.write(encodeFrame("UNSUBSCRIBE", { id }))
  }

  const settler = (entry: Entry, ack: string) => {
    let settled = false
    return (command: "ACK" | "NACK") => () => {
      if (settled || !connection.live() || !entries.has(entry.id)) return
      settled = true
      entry.held--
      connection.write(encodeFrame(command, { id: ack }))
    }
  }

  const unsubscribe = (subscription: Subscription, id: string, headers: Readonly<Record<string, string>>) =>
    Effect.callback<void, BrokerError>((resume) => {
      const receipt = `f-${prefix}-${++counter}`
      const timer = setTimeout(() => {
        entries.delete(receipt)
        const message = `no receipt for the end of the subscription to ${subscription.destination} within ${connection.timeout} ms`
        resume(Effect.fail(new BrokerError({ reason: "timeout", message })))
      }, connection.timeout)
      const answer = (error: BrokerError | undefined) => {
        clearTimeout(timer)
        entries.delete(receipt)
        resume(error === undefined ? Effect.void : Effect.fail(error))
      }
      entries.set(receipt, { id: receipt, subscription, deliver: () => {}, held: 0, answer })
      connection.write(encodeFrame("UNSUBSCRIBE", { id, receipt, ...headers }))
    })

  const forget = Effect.fnUntraced(function* (subscription: Subscription) {
    const forgetting = connection.live()
      ? connection.profile.forget(subscription)
      : "the connection has ended"
    if (typeof forgetting === "string") {
      const message = `the subscription to ${subscription.destination} cannot be deleted: ${forgetting}`
      return yield* new BrokerError({ reason: "subscription", message })
    }
    const { subscribe: target, headers } = forgetting
    if (target === undefined) return yield* unsubscribe(subscription, `f-${prefix}-${++counter}`, headers)
    const { id } = yield* open(
      subscription,
      () => {},
      () => target,
    )
    yield* unsubscribe(subscription, id, headers).pipe(Effect.ensuring(Effect.sync(() => entries.delete(id))))
  })

  return {
    forget,
    subscribe: (subscription, deliver) =>
      Effect.acquireRelease(open(subscription, deliver), (entry) => Effect.sync(() => close(entry)), {
        interruptible: true,
      }).pipe(Effect.asVoid),
    onMessage: ({ headers, body }) => {
      const entry = entries.get(headers["subscription"] ?? "")
      if (entry === undefined) return
      entry.held++
      const settle = settler(entry, headers["ack"] ?? headers["message-id"] ?? "")
      entry.deliver({
        // What came through a virtual topic of ActiveMQ names its queue.
        destination:
          headers["original-destination"] ?? headers["destination"] ?? entry.subscription.destination,
        headers,
        body,
        redelivered: headers["redelivered"] === "true",
        ack: settle("ACK"),
        nack: settle("NACK"),
      })
    },
    onReceipt: (id) => entries.get(id)?.answer?.(undefined),
    onError: (receipt, meaning, words) => {
      if (receipt !== undefined) {
        const entry = entries.get(receipt)
        entry?.answer?.(failure(entry, words))
        return entry !== undefined
      }
      if (meaning._tag !== "named") return false
      let found = false
      for (const entry of entries.values()) {
        const { destination, queue } = entry.subscription
        const names = (name: string) =>
          meaning.matches({ id: "", destination: name, headers: {}, contentType: "", body: "" })
        if (
          entry.answer === undefined ||
          !(names(destination) || (queue !== undefined && names(`/queue/${queue}`)))
        ) {
          continue
        }
        found = true
        entry.answer(failure(entry, words))
      }
      return found
    },
    held: () => {
      let held = 0
      for (const entry of entries.values()) held += entry.held
      return held
    },
    end: (words) => {
      for (const entry of [...entries.values()]) entry.answer?.(failure(entry, words))
      entries.clear()
    },
  }
}
