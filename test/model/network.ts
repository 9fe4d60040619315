/** The way between a process and the broker: frames and answers take their time, and outlive neither end of it. */
import { Effect, Exit } from "effect"
import type {
  Broker,
  BrokerConnection,
  ConnectionEnd,
  Outgoing,
  Settlement,
} from "../../src/broker/broker.ts"
import type { Process } from "./process.ts"
import type { World } from "./world.ts"

export interface NetworkOptions {
  /** Longest way of a frame to the broker, and of an answer back, in virtual milliseconds. */
  readonly frameMillis: number
  readonly answerMillis: number
  /** Sees each outcome as it reaches the process. */
  readonly answered?: (message: Outgoing, settlement: Settlement) => void
  /** Sees what is on its way to the broker. */
  readonly sent?: (batch: ReadonlyArray<Outgoing>) => void
  /** Changes what the broker says of itself. */
  readonly profile?: Partial<BrokerConnection["profile"]>
  /** Sees each connection, and how to cut it alone. */
  readonly opened?: (cut: () => void) => void
  /** How long the broker keeps the connection of a killed process, in virtual milliseconds. */
  readonly lingerMillis?: number
}

const LOST: Settlement = { _tag: "Lost" }

/** The broker as this process reaches it. */
export const overNetwork = (
  world: World,
  process: Process,
  broker: Broker["Service"],
  options: NetworkOptions,
): Broker["Service"] => ({
  connect: (subscription) =>
    Effect.gen(function* () {
      yield* process.gate
      yield* world.sleep(world.random.next() * options.frameMillis)
      const inner = yield* broker.connect(subscription)
      yield* process.gate
      return wrap(world, process, inner, options)
    }),
})

const wrap = (
  world: World,
  process: Process,
  inner: BrokerConnection,
  options: NetworkOptions,
): BrokerConnection => {
  const unsettled = new Map<object, () => void>()
  const tellings = new Set<(end: ConnectionEnd) => void>()
  let end: ConnectionEnd | undefined
  let destroyed = false
  const way = (longest: number) => {
    const queue: Array<() => void> = []
    let free = 0
    return (run: () => void) => {
      queue.push(run)
      free = Math.max(free, world.now() + world.random.next() * longest)
      // Nothing overtakes on a connection, not even where two times are equal but for their last digit.
      world.after(free - world.now(), () => queue.shift()?.())
    }
  }
  const toBroker = way(options.frameMillis)
  const fromBroker = way(options.answerMillis)

  const leaveNow = (how: ConnectionEnd) => {
    if (end !== undefined) return
    end = how
    for (const lose of [...unsettled.values()]) lose()
    for (const tell of tellings) tell(how)
  }
  const leave = (how: ConnectionEnd) => process.enter(() => leaveNow(how))
  // What the broker closes it over comes behind its last answers; an outage overtakes them.
  Effect.runFork(
    Effect.andThen(inner.ended, (how) =>
      Effect.sync(() => (how.reason === "error" ? fromBroker(() => leave(how)) : leave(how))),
    ),
  )
  options.opened?.(() => {
    destroyed = true
    leave({ reason: "outage", words: "cut" })
    inner.destroy()
  })
  process.onKill(() => world.after(world.random.next() * (options.lingerMillis ?? 5), () => inner.destroy()))

  return {
    ...inner,
    profile: { ...inner.profile, ...options.profile },
    lingerMillis: options.lingerMillis ?? inner.lingerMillis,
    send: (batch, settle) => {
      if (process.killed()) return
      const settles = batch.map((message, index) => {
        const token = {}
        const once = (settlement: Settlement) => {
          if (!unsettled.delete(token)) return
          options.answered?.(message, settlement)
          settle(index, settlement)
        }
        unsettled.set(token, () => once(LOST))
        return once
      })
      if (end !== undefined) return void queueMicrotask(() => settles.forEach((once) => void once(LOST)))
      options.sent?.(batch)
      toBroker(() => {
        if (destroyed) return
        inner.send(batch, (index, settlement) => {
          const answer = () => process.enter(() => end === undefined && settles[index]!(settlement))
          if (settlement._tag !== "Lost") fromBroker(answer)
        })
      })
    },
    subscribe: (subscription, deliver) =>
      inner.subscribe(subscription, (incoming) =>
        fromBroker(() =>
          process.enter(() => {
            if (end !== undefined) return
            deliver({
              ...incoming,
              ack: () => !process.killed() && toBroker(incoming.ack),
              nack: () => !process.killed() && toBroker(incoming.nack),
            })
          }),
        ),
      ),
    ended: Effect.callback<ConnectionEnd>((resume) => {
      if (end !== undefined) return resume(Exit.succeed(end))
      const tell = (how: ConnectionEnd) => resume(Exit.succeed(how))
      tellings.add(tell)
      return Effect.sync(() => tellings.delete(tell))
    }),
    destroy: () => {
      if (process.killed()) return
      destroyed = true
      inner.destroy()
      leaveNow({ reason: "closed", words: "destroyed" })
    },
  }
}
