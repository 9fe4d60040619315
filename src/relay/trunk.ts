/**
 * The relay's connections to the broker as one: a broker that handles each connection in a process of its own takes more
 * over several than over one.
 *
 * While something of a lane is in flight all of it, and so all of a key, goes over the same connection, whose order is the
 * key's. A trickle goes over the first alone, as more connections are more work for both sides. They end together.
 */
import * as Effect from "effect/Effect"
import * as Scope from "effect/Scope"
import {
  type Broker,
  type BrokerConnection,
  BrokerError,
  type BrokerProfile,
  type ConnectionEnd,
  type Outgoing,
  type Settlement,
} from "../broker/broker.ts"
import { LANES, type StoredMessage } from "../store/store.ts"

/** Which connection was the first to end, and what it had been through. */
export interface TrunkEnd extends ConnectionEnd {
  /** Whether what was in flight of this lane went over it. */
  readonly carried: (lane: number) => boolean
  /** It had a message confirmed. */
  readonly confirmed: boolean
  /** A refusal on it named what it was about. */
  readonly named: boolean
}

export interface Trunk {
  readonly profile: BrokerProfile
  /** How many connections. */
  readonly size: number
  /** Sends in order, per lane; `settle` is called once per message, never before `send` returns. `at`: the time. */
  readonly send: (
    messages: ReadonlyArray<StoredMessage>,
    at: number,
    encode: (message: StoredMessage) => Outgoing,
    settle: (message: StoredMessage, settlement: Settlement) => void,
  ) => void
  /** When the latest sent of the confirmed messages was sent, over the connection of this lane or over any. */
  readonly newestConfirmed: (lane?: number) => number
  /** Resolves when all have ended, after every unsettled message was settled as `Lost`. */
  readonly ended: Effect.Effect<TrunkEnd>
  /** Ends all of them now and flushes nothing. */
  readonly destroy: () => void
}

/** Milliseconds that the further connections may take: the relay goes on without those that do not come. */
const PATIENCE = 1000

/**
 * Opens as many connections as suit the broker, one at least. They close with the scope, together. `crowd`: with so many
 * in flight, they all are used.
 */
export const openTrunk = Effect.fnUntraced(function* (broker: Broker["Service"], crowd: number) {
  const scope = yield* Scope.fork(yield* Effect.scope, "parallel")
  const connect = Scope.provide(broker.connect(), scope)
  const first = yield* connect
  const { connections } = first.profile
  const further = yield* Effect.forEach(
    Array.from({ length: connections - 1 }),
    () =>
      connect.pipe(
        Effect.timeoutOrElse({
          duration: PATIENCE,
          orElse: () =>
            Effect.fail(new BrokerError({ reason: "timeout", message: `no answer within ${PATIENCE} ms` })),
        }),
        Effect.catch(({ message }) => Effect.succeed(message)),
      ),
    { concurrency: "unbounded" },
  )
  const opened = further.filter((one) => typeof one !== "string")
  const [words] = further.filter((one) => typeof one === "string")
  if (words !== undefined)
    yield* Effect.logWarning("the broker gives fewer connections than suit it").pipe(
      Effect.annotateLogs({ connections: opened.length + 1, wanted: connections, words }),
    )
  return makeTrunk([first, ...opened], crowd)
})

interface Line {
  readonly connection: BrokerConnection
  /** When the latest sent of its confirmed messages was sent. */
  newestConfirmed: number
  named: boolean
}

const makeTrunk = (connections: readonly [BrokerConnection, ...BrokerConnection[]], crowd: number): Trunk => {
  const lines = connections.map(
    (connection): Line => ({ connection, newestConfirmed: Number.NEGATIVE_INFINITY, named: false }),
  )
  /** In flight, of each lane and in all, and over which line a lane goes while it has some. */
  const flying = new Int32Array(LANES)
  const lineOf = new Int32Array(LANES)
  let inFlight = 0
  const destroy = () => {
    for (const connection of connections) connection.destroy()
  }
  const sendOver = (
    line: Line,
    messages: ReadonlyArray<StoredMessage>,
    at: number,
    encode: (message: StoredMessage) => Outgoing,
    settle: (message: StoredMessage, settlement: Settlement) => void,
  ) =>
    line.connection.send(messages.map(encode), (index, settlement) => {
      if (settlement._tag === "Confirmed") line.newestConfirmed = Math.max(line.newestConfirmed, at)
      else if (settlement._tag === "Refused") line.named = true
      const message = messages[index]!
      // What is lost may have arrived or not: nothing of its lane may pass it on another connection.
      if (settlement._tag !== "Lost") {
        flying[message.lane]!--
        inFlight--
      }
      settle(message, settlement)
    })
  return {
    profile: connections[0].profile,
    size: connections.length,
    newestConfirmed: (lane) =>
      lane === undefined
        ? Math.max(...lines.map(({ newestConfirmed }) => newestConfirmed))
        : lines[lineOf[lane]!]!.newestConfirmed,
    send: (messages, at, encode, settle) => {
      inFlight += messages.length
      const used = inFlight < crowd ? 1 : lines.length
      const parts: StoredMessage[][] = lines.map(() => [])
      for (const message of messages) {
        const { lane } = message
        if (flying[lane]!++ === 0) lineOf[lane] = lane % used
        parts[lineOf[lane]!]!.push(message)
      }
      for (const [index, part] of parts.entries())
        if (part.length > 0) sendOver(lines[index]!, part, at, encode, settle)
    },
    ended: Effect.raceAllFirst(
      lines.map((line, index) =>
        Effect.map(
          line.connection.ended,
          (end): TrunkEnd => ({
            ...end,
            carried: (lane) => lineOf[lane] === index,
            confirmed: line.newestConfirmed !== Number.NEGATIVE_INFINITY,
            named: line.named,
          }),
        ),
      ),
    ).pipe(
      Effect.tap(() => {
        destroy()
        return Effect.forEach(connections, ({ ended }) => ended, { discard: true })
      }),
    ),
    destroy,
  }
}
