/** The broker port over a STOMP session: receipts are confirmations, ERROR frames are read by `refusal.ts`. */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import {
  type BrokerConnection,
  BrokerError,
  type ConnectionEnd,
  type Outgoing,
  type Settlement,
  type Subscription,
} from "../broker.ts"
import { clientIdFor } from "./activemq.ts"
import { failedToConnect, refusedToConnect } from "./connect-error.ts"
import type { Endpoint } from "./endpoint.ts"
import { bodyLength, encodeFrame, encodeSend } from "./frame.ts"
import { agreed, termsFor } from "./heartbeat.ts"
import type { Frame } from "./parser.ts"
import { profileOf, type StompProfile } from "./profile.ts"
import { blamesContent, type ErrorMeaning, meaningOf, wordsOf } from "./refusal.ts"
import { openSession, type Session, type SessionEnd, type SessionOptions } from "./session.ts"
import { makeSubscriptions } from "./subscriptions.ts"
import { runsOf } from "./transactions.ts"

export interface StompConnectionOptions extends SessionOptions {
  /** Milliseconds for the socket, TLS and CONNECTED together, and for the receipt of a subscription. */
  readonly connectTimeout: number
}

/** A polite end waits so many milliseconds for the broker's answer to DISCONNECT. */
const DISCONNECT_TIMEOUT = 2_000

/** How long an ERROR that names nobody may wait for the one that explains it. */
const EXPLANATION_TIMEOUT = 1_000

/** Milliseconds that a broker may be late in dropping a silent client. */
const LINGER_MARGIN = 500

/**
 * A broker answers one message at a time, and to be woken for each costs both sides more than the answer itself. With so
 * many messages in flight, or deliveries at work, nobody waits for the next: what comes is gathered for a millisecond for
 * each fifty, which the fastest of brokers needs for them.
 */
const PLENTY = 64
const EACH_MILLISECOND = 50
const LONGEST_GATHER = 20

const confirmed: Settlement = { _tag: "Confirmed" }
const lost: Settlement = { _tag: "Lost" }

interface InFlight {
  readonly message: Outgoing
  readonly index: number
  readonly settle: (index: number, settlement: Settlement) => void
}

interface Handlers {
  readonly onFrame: (frame: Frame) => void
  readonly onReceipt: (receipt: number) => void
  readonly gatherMillis: () => number
  readonly onEnd: (end: SessionEnd) => void
}

/** Connects to one endpoint, for the subscription if one is given; its scope closes the connection politely. */
export const connectTo = (
  endpoint: Endpoint,
  options: StompConnectionOptions,
  subscription: Subscription | undefined,
) =>
  Effect.acquireRelease(handshake(endpoint, options, subscription), (connection) => connection.close, {
    interruptible: true,
  })

const handshake = (
  endpoint: Endpoint,
  options: StompConnectionOptions,
  subscription: Subscription | undefined,
) =>
  Effect.callback<BrokerConnection & { readonly close: Effect.Effect<void> }, BrokerError>((resume) => {
    let handlers: Handlers
    const clientId = subscription === undefined ? undefined : clientIdFor(subscription)
    const purpose = { subscribes: subscription !== undefined, clientId }
    const fail = (error: BrokerError) => {
      clearTimeout(timer)
      session.destroy()
      resume(Effect.fail(error))
    }
    handlers = {
      onFrame: (frame) => {
        if (frame.command !== "CONNECTED") return fail(refusedToConnect(endpoint, wordsOf(frame)))
        if (frame.headers["version"] !== "1.2") {
          return fail(
            refusedToConnect(endpoint, `it speaks STOMP ${frame.headers["version"] ?? "1.0"}, not 1.2`),
          )
        }
        clearTimeout(timer)
        const profile = profileOf(frame.headers["server"] ?? "", clientId)
        const { promised } = agreed(termsFor(options.heartbeat), frame)
        const lingerMillis =
          promised === 0 ? Number.POSITIVE_INFINITY : profile.patience * promised + LINGER_MARGIN
        const made = makeConnection(session, profile, lingerMillis, endpoint, options)
        handlers = made.handlers
        resume(Effect.succeed(made.connection))
      },
      onReceipt: (receipt) =>
        fail(refusedToConnect(endpoint, `it answers CONNECT with the receipt ${receipt}`)),
      gatherMillis: () => 0,
      onEnd: (end) => fail(failedToConnect(endpoint, end)),
    }
    const session = openSession(endpoint, options, purpose, {
      onFrame: (frame) => handlers.onFrame(frame),
      onReceipt: (receipt) => handlers.onReceipt(receipt),
      gatherMillis: () => handlers.gatherMillis(),
      onEnd: (end) => handlers.onEnd(end),
    })
    const timer = setTimeout(() => {
      const message = `no STOMP answer from ${endpoint.label} within ${options.connectTimeout} ms`
      fail(new BrokerError({ reason: "timeout", message }))
    }, options.connectTimeout)
    return Effect.sync(() => {
      clearTimeout(timer)
      session.destroy()
    })
  })

const makeConnection = (
  session: Session,
  profile: StompProfile,
  lingerMillis: number,
  endpoint: Endpoint,
  options: StompConnectionOptions,
): {
  readonly connection: BrokerConnection & { readonly close: Effect.Effect<void> }
  readonly handlers: Handlers
} => {
  /** By receipt, in the order sent. */
  const inFlight = new Map<number, InFlight>()
  const ending = Deferred.makeUnsafe<ConnectionEnd>()
  let receipts = 0
  let ended = false
  let closing = false
  let unexplained: { readonly words: string; readonly timer: NodeJS.Timeout } | undefined

  const end = (how: ConnectionEnd) => {
    if (ended) return
    ended = true
    clearTimeout(unexplained?.timer)
    session.destroy()
    const unsettled = [...inFlight.values()]
    inFlight.clear()
    for (const { index, settle } of unsettled) settle(index, lost)
    subscriptions.end(how.words)
    Deferred.doneUnsafe(ending, Effect.succeed(how))
  }

  /** Receipts of messages, by that of their COMMIT. */
  const transactions = new Map<number, ReadonlyArray<number>>()
  const subscriptions = makeSubscriptions({
    profile,
    write: session.write,
    live: () => !ended,
    timeout: options.connectTimeout,
  })

  const settle = (receipt: number, { index, settle: tell }: InFlight, settlement: Settlement) => {
    inFlight.delete(receipt)
    tell(index, settlement)
  }

  const onReceipt = (receipt: number) => {
    if (ended) return
    const members = transactions.get(receipt)
    if (members === undefined) return confirm(receipt)
    transactions.delete(receipt)
    for (const member of members) confirm(member)
  }
  const confirm = (receipt: number) => {
    const found = inFlight.get(receipt)
    if (found !== undefined) settle(receipt, found, confirmed)
  }

  /** Settles whatever the ERROR names; false when that is nobody. */
  const settleNamed = (meaning: ErrorMeaning & { readonly _tag: "named" }, words: string): boolean => {
    let found = false
    const candidates = [...inFlight]
    if (meaning.largest) candidates.sort(([, a], [, b]) => bodyLength(b.message) - bodyLength(a.message))
    for (const [receipt, entry] of candidates) {
      if (!meaning.matches(entry.message)) continue
      found = true
      settle(receipt, entry, { _tag: "Refused", scope: meaning.scope, words })
      if (meaning.one) break
    }
    return found
  }

  const onError = (frame: Frame) => {
    const words = wordsOf(frame)
    const meaning = meaningOf(frame)
    const receipt = frame.headers["receipt-id"]
    const sent = receipt === undefined ? undefined : inFlight.get(Number(receipt))
    // Alone and without a transaction, each message says why.
    if (transactions.has(Number(receipt))) return end({ reason: "error", words })
    if (subscriptions.onError(receipt, meaning, words)) {
      if (meaning._tag === "named" && meaning.closes) end({ reason: "error", words })
      return
    }
    if (sent !== undefined) {
      const scope = meaning._tag === "named" ? meaning.scope : "attempt"
      settle(Number(receipt), sent, { _tag: "Refused", scope, words })
      // Whether the broker closes after such an ERROR is its own affair; what came later must not pass it.
      if (scope === "attempt" || (meaning._tag === "named" && meaning.closes)) end({ reason: "error", words })
      return
    }
    if (meaning._tag === "outage") return end({ reason: "outage", words })
    if (meaning._tag === "named") {
      // An ERROR about what an earlier one settled already names nobody in flight, and means nothing more.
      settleNamed(meaning, words)
      if (meaning.closes) end({ reason: "error", words })
      return
    }
    onUnnamed(words)
  }

  const onUnnamed = (words: string) => {
    const [only, ...others] = inFlight
    if (only !== undefined && others.length === 0) {
      settle(only[0], only[1], { _tag: "Refused", scope: "attempt", words })
      return end({ reason: "error", words })
    }
    // Frames behind one that closes are answered first; the explanation may be on its way.
    unexplained ??= { words, timer: setTimeout(() => end({ reason: "error", words }), EXPLANATION_TIMEOUT) }
  }

  const onFrame = (frame: Frame) => {
    if (ended) return
    switch (frame.command) {
      case "RECEIPT":
        return subscriptions.onReceipt(frame.headers["receipt-id"] ?? "")
      case "MESSAGE":
        return subscriptions.onMessage(frame)
      case "ERROR":
        return onError(frame)
      default:
        return end({ reason: "error", words: `${endpoint.label} sent a frame that is no STOMP 1.2` })
    }
  }

  const onEnd = (how: SessionEnd) => {
    if (closing) return end({ reason: "closed", words: "closed" })
    if (unexplained !== undefined) return end({ reason: "error", words: unexplained.words })
    end(wordsOfEnd(how))
  }

  const gatherMillis = () => {
    const busy = inFlight.size + subscriptions.held()
    return busy < PLENTY ? 0 : Math.min(LONGEST_GATHER, Math.ceil(busy / EACH_MILLISECOND))
  }

  const wordsOfEnd = (how: SessionEnd): ConnectionEnd => {
    if (how._tag === "garbage") {
      return { reason: "error", words: `${endpoint.label} sent what is no STOMP: ${how.words}` }
    }
    if (how._tag === "silent") {
      const words = `no sign of life from ${endpoint.label} for ${how.milliseconds} ms`
      return { reason: "outage", words, silentMillis: how.milliseconds }
    }
    if (how.said !== undefined && blamesContent(how.said)) {
      return { reason: "error", words: `${endpoint.label} closed the connection: ${how.said}` }
    }
    for (const { message } of inFlight.values()) {
      const length = bodyLength(message)
      if (length > profile.silentLimit) {
        const words = `${endpoint.label} closed without a word while a body of ${length} bytes was in flight, over the usual limit of ${profile.silentLimit} bytes (RabbitMQ: stomp.max_frame_size)`
        return { reason: "error", words }
      }
    }
    const words = how.said ?? how.error?.message
    const cause = words === undefined ? "" : `: ${words}`
    return { reason: "outage", words: `${endpoint.label} closed the connection${cause}` }
  }

  const send: BrokerConnection["send"] = (batch, tell) => {
    // Something was refused, and it is not known what: nothing may pass it.
    if (ended || unexplained !== undefined) {
      queueMicrotask(() => {
        for (let index = 0; index < batch.length; index++) tell(index, lost)
      })
      return
    }
    if (profile.transaction === 1) {
      for (let index = 0; index < batch.length; index++) post(batch, index, tell, undefined)
      return
    }
    for (const { from, to } of runsOf(batch, profile.transaction)) {
      if (to - from === 1) {
        post(batch, from, tell, undefined)
        continue
      }
      const commit = ++receipts
      const transaction = String(commit)
      session.write(encodeFrame("BEGIN", { transaction }))
      const members = Array.from({ length: to - from }, (_, n) => post(batch, from + n, tell, transaction))
      transactions.set(commit, members)
      session.write(encodeFrame("COMMIT", { transaction, receipt: transaction }))
    }
  }

  /** Sends one message and returns its receipt. */
  const post = (
    batch: ReadonlyArray<Outgoing>,
    index: number,
    tell: InFlight["settle"],
    transaction: string | undefined,
  ): number => {
    const message = batch[index] as Outgoing
    const receipt = ++receipts
    const entry: InFlight = { message, index, settle: tell }
    inFlight.set(receipt, entry)
    const impossible = profile.impossible(message)
    const frame = impossible ?? encodeSend(message, receipt, profile.idHeader, transaction)
    if (typeof frame === "string" || frame instanceof Uint8Array) {
      session.write(frame)
      return receipt
    }
    const { scope, words } = frame
    queueMicrotask(() => {
      if (inFlight.has(receipt)) settle(receipt, entry, { _tag: "Refused", scope, words })
    })
    return receipt
  }

  const close = Effect.suspend(() => {
    if (ended) return Effect.void
    closing = true
    return Effect.promise(() => session.disconnect()).pipe(
      Effect.timeoutOption(DISCONNECT_TIMEOUT),
      Effect.andThen(Effect.sync(() => end({ reason: "closed", words: "closed" }))),
    )
  })

  return {
    handlers: { onFrame, onReceipt, gatherMillis, onEnd },
    connection: {
      profile,
      send,
      subscribe: subscriptions.subscribe,
      forget: subscriptions.forget,
      lingerMillis,
      buffered: session.buffered,
      ended: Deferred.await(ending),
      destroy: () => end({ reason: "closed", words: "destroyed" }),
      close,
    },
  }
}
