/**
 * A broker in this process: for tests, the demo and benchmarks.
 *
 * `/topic/…` fans out to every subscription, `/queue/…` gives each message to one of its subscribers, and a named queue
 * keeps what arrives while nobody listens. Nothing outlives the process. Every fault a real broker can show is a call
 * of `MemoryBroker`, so that policy can be tested without one.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import {
  Broker,
  type BrokerConnection,
  BrokerError,
  type BrokerProfile,
  type ConnectionEnd,
  type Outgoing,
  type RefusalScope,
  type Settlement,
} from "./broker.ts"
import { makeQueues } from "./memory-queues.ts"

export interface MemoryBrokerOptions {
  /**
   * What the profile says of several messages of one key in flight. Where true, an `attempt` refusal ends its
   * connection and nothing sent later on it is accepted. Default true.
   */
  readonly pipelined?: boolean
  /** Confirms everything and keeps nothing, at next to no cost a message: the other side of a benchmark. Default false. */
  readonly sink?: boolean
}

/** What a refused message is told. */
export interface MemoryRefusal {
  readonly scope: RefusalScope
  readonly words: string
}

/** Faults and findings of the memory broker. Each fault lasts until its returned function (or its opposite) is called. */
export class MemoryBroker extends Context.Service<
  MemoryBroker,
  {
    /** Refuses the messages that match. */
    readonly refuse: (match: (message: Outgoing) => boolean, refusal: MemoryRefusal) => () => void
    /** Accepts the messages that match and withholds their confirmations; the returned function gives them. */
    readonly stall: (match?: (message: Outgoing) => boolean) => () => void
    /** Delays every confirmation by so many milliseconds of the real clock; 0 ends it. */
    readonly confirmAfter: (milliseconds: number) => void
    /** Takes nothing more, as a broker out of memory does: what is sent stays buffered in its connection. */
    readonly block: () => () => void
    /** Ends every connection as an outage: what was not confirmed is lost, whether it was accepted or not. */
    readonly cut: (words?: string) => void
    /** Cuts every connection and answers no `connect`. */
    readonly down: () => () => void
    /** Everything accepted, in order; always empty in a sink. */
    readonly accepted: ReadonlyArray<Outgoing>
    /** How many connections are open. */
    readonly connections: () => number
  }
>()("drizzle-outbox/MemoryBroker") {}

const confirmed: Settlement = { _tag: "Confirmed" }
const lost: Settlement = { _tag: "Lost" }

type Settle = (settlement: Settlement) => void

interface Connection {
  readonly process: () => void
  readonly end: (end: ConnectionEnd) => void
}

/** A memory broker and its faults. */
export const layerMemory = (options: MemoryBrokerOptions = {}): Layer.Layer<Broker | MemoryBroker> =>
  Layer.effectContext(
    Effect.sync(() => {
      const profile: BrokerProfile = {
        name: "memory",
        server: "memory",
        pipelined: options.pipelined ?? true,
        elects: true,
        connections: 1,
      }
      const queues = makeQueues()
      const connections = new Set<Connection>()
      const refusals = new Set<{ match: (message: Outgoing) => boolean; refusal: MemoryRefusal }>()
      const stalls = new Set<{ match: (message: Outgoing) => boolean; settles: Array<() => void> }>()
      const accepted: Array<Outgoing> = []
      const blocks = new Set<object>()
      const downs = new Set<object>()
      let delay = 0

      const cut = (words = "connection cut") => {
        for (const connection of [...connections]) connection.end({ reason: "outage", words })
      }
      const holding = (holders: Set<object>, onRelease: () => void) => {
        const holder = {}
        holders.add(holder)
        return () => {
          if (holders.delete(holder) && holders.size === 0) onRelease()
        }
      }
      const confirm = (message: Outgoing, settle: Settle) => {
        for (const stall of stalls) {
          if (stall.match(message)) {
            stall.settles.push(() => settle(confirmed))
            return
          }
        }
        if (delay > 0) setTimeout(settle, delay, confirmed)
        else settle(confirmed)
      }
      const refusalOf = (message: Outgoing) => {
        for (const { match, refusal } of refusals) if (match(message)) return refusal
        return undefined
      }

      const open = (): BrokerConnection & { readonly close: Effect.Effect<void> } => {
        let waiting: Array<{ message: Outgoing; settle: Settle }> = []
        let buffered = 0
        let scheduled = false
        let ended: ConnectionEnd | undefined
        const unsettled = new Set<Settle>()
        const endings = new Set<(end: ConnectionEnd) => void>()
        const session = queues.session()

        const end = (how: ConnectionEnd) => {
          if (ended !== undefined) return
          ended = how
          connections.delete(connection)
          waiting = []
          buffered = 0
          session.end()
          for (const settle of [...unsettled]) settle(lost)
          for (const tell of endings) tell(how)
        }
        const process = () => {
          scheduled = false
          if (blocks.size > 0) return
          const batch = waiting
          waiting = []
          buffered = 0
          for (const { message, settle } of batch) {
            if (ended !== undefined) return
            const refusal = refusalOf(message)
            if (refusal === undefined) {
              accepted.push(message)
              queues.route(message)
              confirm(message, settle)
            } else {
              settle({ _tag: "Refused", scope: refusal.scope, words: refusal.words })
              if (refusal.scope === "attempt" && profile.pipelined)
                end({ reason: "error", words: refusal.words })
            }
          }
        }
        const schedule = () => {
          if (scheduled) return
          scheduled = true
          setImmediate(process)
        }
        const connection: Connection = { process: schedule, end }
        connections.add(connection)

        const sendToSink: BrokerConnection["send"] = (batch, settle) => {
          setImmediate(() => {
            const outcome = ended === undefined ? confirmed : lost
            for (let index = 0; index < batch.length; index++) settle(index, outcome)
          })
        }
        const send: BrokerConnection["send"] = (batch, settle) => {
          if (ended !== undefined) {
            queueMicrotask(() => {
              for (let index = 0; index < batch.length; index++) settle(index, lost)
            })
            return
          }
          for (let index = 0; index < batch.length; index++) {
            const message = batch[index] as Outgoing
            const once: Settle = (settlement) => {
              if (unsettled.delete(once)) settle(index, settlement)
            }
            unsettled.add(once)
            waiting.push({ message, settle: once })
            buffered += message.body.length
          }
          schedule()
        }

        return {
          profile,
          send: options.sink === true ? sendToSink : send,
          subscribe: (subscription, deliver) =>
            Effect.asVoid(
              Effect.acquireRelease(
                Effect.suspend(() =>
                  ended === undefined
                    ? Effect.succeed(session.subscribe(subscription, deliver))
                    : new BrokerError({ reason: "subscription", message: "the connection has ended" }),
                ),
                (unsubscribe) => Effect.sync(unsubscribe),
              ),
            ),
          forget: (subscription) =>
            Effect.suspend(() => {
              const words = ended === undefined ? queues.forget(subscription) : "the connection has ended"
              return words === undefined
                ? Effect.void
                : new BrokerError({ reason: "subscription", message: words })
            }),
          lingerMillis: 0,
          buffered: () => buffered,
          ended: Effect.callback<ConnectionEnd>((resume) => {
            if (ended !== undefined) return resume(Effect.succeed(ended))
            const tell = (how: ConnectionEnd) => resume(Effect.succeed(how))
            endings.add(tell)
            return Effect.sync(() => endings.delete(tell))
          }),
          destroy: () => end({ reason: "closed", words: "destroyed" }),
          close: Effect.sync(() => {
            // A polite end hands over what still waits, unless the broker takes nothing.
            if (ended === undefined) process()
            end({ reason: "closed", words: "closed" })
          }),
        }
      }

      const broker = Broker.of({
        connect: () =>
          Effect.acquireRelease(
            Effect.suspend(() =>
              downs.size === 0
                ? Effect.sync(open)
                : new BrokerError({ reason: "unreachable", message: "the memory broker is down" }),
            ),
            (connection) => connection.close,
          ),
      })
      const handle = MemoryBroker.of({
        refuse: (match, refusal) => {
          const entry = { match, refusal }
          refusals.add(entry)
          return () => void refusals.delete(entry)
        },
        stall: (match = () => true) => {
          const entry = { match, settles: [] as Array<() => void> }
          stalls.add(entry)
          return () => {
            stalls.delete(entry)
            for (const settle of entry.settles.splice(0)) settle()
          }
        },
        confirmAfter: (milliseconds) => {
          delay = milliseconds
        },
        block: () =>
          holding(blocks, () => {
            for (const connection of connections) connection.process()
          }),
        cut,
        down: () => {
          const up = holding(downs, () => {})
          cut("the memory broker is down")
          return up
        },
        accepted,
        connections: () => connections.size,
      })
      return Context.make(Broker, broker).pipe(Context.add(MemoryBroker, handle))
    }),
  )
