/** A relay whose broker takes more over several connections than over one. */
import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Layer } from "effect"
import { Broker, BrokerError, type Outgoing } from "../../src/broker/broker.ts"
import { layerMemory as brokerMemory, MemoryBroker } from "../../src/broker/memory.ts"
import { openTrunk } from "../../src/relay/trunk.ts"
import { layerPolling } from "../../src/relay/wakeup.ts"
import { layerMemory, MemoryOutbox } from "../../src/store/memory.ts"
import { OutboxStore, type StoredMessage } from "../../src/store/store.ts"
import { assertInOrder, firstArrivals } from "../support/arrivals.ts"
import { eventually, startRelay } from "../support/relay.ts"

const KEYS = 10

const limited = Effect.fail(new BrokerError({ reason: "unreachable", message: "connection limit reached" }))

/** A broker that asks for three connections and gives `most`; `sent` is what went over each. */
const setup = (most = Number.POSITIVE_INFINITY, beyond: Effect.Effect<never, BrokerError> = limited) =>
  Effect.gen(function* () {
    const memory = yield* Layer.build(layerMemory)
    const broker = yield* Layer.build(brokerMemory({ pipelined: true }))
    const outbox = Context.get(memory, MemoryOutbox)
    const faults = Context.get(broker, MemoryBroker)
    const sent: Outgoing[][] = []
    const cuts: Array<() => void> = []
    const wanting = Broker.of({
      connect: () =>
        Effect.gen(function* () {
          if (faults.connections() >= most) return yield* beyond
          const connection = yield* Context.get(broker, Broker).connect()
          const mine: Outgoing[] = []
          sent.push(mine)
          cuts.push(connection.destroy)
          return {
            ...connection,
            profile: { ...connection.profile, connections: 3 },
            send: (batch, settle) => {
              mine.push(...batch)
              connection.send(batch, settle)
            },
            ended: Effect.map(connection.ended, () => ({ reason: "outage", words: "cut" }) as const),
          }
        }),
    })
    const layer = Layer.mergeAll(
      Layer.succeed(OutboxStore, Context.get(memory, OutboxStore)),
      Layer.succeed(Broker, wanting),
      layerPolling,
    )
    const write = Effect.fnUntraced(function* (from: number, to: number) {
      for (let n = from; n < to; n++) {
        const tx = yield* outbox.begin
        yield* tx.append({ event: "e", destination: "/topic/t", body: String(n), key: `k${n % KEYS}` })
        yield* tx.commit
      }
    })
    const arrived = (count: number) =>
      Effect.promise(() =>
        eventually(async () => assert.strictEqual(firstArrivals(faults.accepted).ids.size, count)),
      )
    return { broker: wanting, faults, layer, write, arrived, sent, cuts }
  })

const stored = (id: string, lane: number) => ({ id, lane }) as StoredMessage
const toWire = ({ id }: StoredMessage): Outgoing => ({
  id,
  destination: "/topic/t",
  headers: {},
  contentType: "text/plain",
  body: id,
})
const keysOf = (messages: ReadonlyArray<Outgoing>) =>
  new Set(messages.map(({ headers }) => headers["outbox-key"]))

describe("several connections", () => {
  it.live("share the keys of a crowd, each of which stays on its own", () =>
    Effect.gen(function* () {
      const { faults, layer, write, arrived, sent } = yield* setup()
      yield* write(0, 300)
      const release = faults.stall()
      const { lines } = yield* startRelay(layer)
      yield* arrived(300)
      const keys = sent.map(keysOf)
      release()
      assert.lengthOf(keys, 3)
      for (const some of keys) assert.isAbove(some.size, 0)
      assert.strictEqual(
        keys.reduce((sum, { size }) => sum + size, 0),
        KEYS,
      )
      assertInOrder(faults.accepted)
      assert.strictEqual(
        lines.find(({ text }) => text === "connected to the broker")?.annotations["connections"],
        3,
      )
    }),
  )

  it.live("leave a trickle to the first", () =>
    Effect.gen(function* () {
      const { faults, layer, write, arrived, sent } = yield* setup()
      yield* startRelay(layer)
      for (let n = 0; n < 30; n++) {
        yield* write(n, n + 1)
        yield* arrived(n + 1)
      }
      assert.deepStrictEqual(
        sent.map(({ length }) => length),
        [30, 0, 0],
      )
      assertInOrder(faults.accepted)
    }),
  )

  it.live("end together, and what was in flight on any comes again", () =>
    Effect.gen(function* () {
      const { faults, layer, write, arrived, sent, cuts } = yield* setup()
      yield* startRelay(layer)
      yield* write(0, 50)
      yield* arrived(50)
      const release = faults.stall()
      yield* write(50, 100)
      yield* arrived(100)
      cuts[1]!()
      release()
      yield* write(100, 150)
      yield* arrived(150)
      yield* Effect.promise(() => eventually(async () => assert.strictEqual(faults.connections(), 3)))
      assert.lengthOf(sent, 6)
      const again = new Set(sent.slice(3).flatMap((some) => some.map(({ body }) => Number(body))))
      for (let n = 50; n < 150; n++) assert.isTrue(again.has(n), `${n} came again`)
      assertInOrder(faults.accepted)
    }),
  )

  it.live("accuse no destination when one of them confirms nothing and the others go on", () =>
    Effect.gen(function* () {
      const { faults, layer, write, arrived, sent } = yield* setup()
      yield* write(0, 300)
      const release = faults.stall((message) => sent[1]!.includes(message))
      const { lines } = yield* startRelay(layer, { receiptTimeout: "200 millis" })
      for (let n = 300; n < 500; n += KEYS) {
        yield* write(n, n + KEYS)
        yield* Effect.sleep(30)
      }
      yield* arrived(500)
      release()
      assert.isAbove(sent[1]!.length, 0)
      assert.isFalse(lines.some(({ text }) => text === "destination held"))
      assert.lengthOf(faults.accepted, 500)
      assertInOrder(faults.accepted)
    }),
  )

  it.live("accuse a destination that is silent on one of them while others get theirs for long", () =>
    Effect.gen(function* () {
      const { faults, layer, write, sent } = yield* setup()
      yield* write(0, 300)
      const release = faults.stall((message) => sent[1]!.includes(message))
      const { lines } = yield* startRelay(layer, { receiptTimeout: "50 millis" })
      for (let n = 300; n < 700; n += KEYS) {
        yield* write(n, n + KEYS)
        yield* Effect.sleep(30)
      }
      yield* Effect.promise(() =>
        eventually(async () => assert.isTrue(lines.some(({ text }) => text === "destination held"))),
      )
      release()
    }),
  )

  it.live("accuse no destination of what was sent together with what was confirmed", () =>
    Effect.gen(function* () {
      const { faults, layer, write, arrived } = yield* setup()
      yield* write(0, 10)
      const release = faults.stall(({ body }) => Number(body) >= 5)
      const { lines } = yield* startRelay(layer, { receiptTimeout: "200 millis" })
      yield* arrived(10)
      yield* Effect.sleep(800)
      release()
      assert.isFalse(lines.some(({ text }) => text === "destination held"))
      assert.isTrue(lines.some(({ text }) => text.startsWith("the broker confirms nothing")))
      assert.lengthOf(faults.accepted, 10)
    }),
  )

  it.live("accuse no destination when a broker that was blocked answers out of order", () =>
    Effect.gen(function* () {
      const { faults, layer, write, arrived } = yield* setup()
      const [first, late, last] = ["0", "1", "2"].map((body) =>
        faults.stall((message) => message.body === body),
      )
      const { lines } = yield* startRelay(layer, { receiptTimeout: "3 seconds" })
      yield* write(0, 2)
      yield* arrived(2)
      yield* write(2, 3)
      yield* arrived(3)
      yield* Effect.sleep(2000)
      first!()
      yield* Effect.sleep(1100)
      last!()
      yield* Effect.sleep(250)
      late!()
      yield* Effect.sleep(600)
      assert.isFalse(lines.some(({ text }) => text === "destination held"))
      assert.lengthOf(faults.accepted, 3)
    }),
  )

  it.live("let nothing pass what was lost on one of them, before they have all ended", () =>
    Effect.gen(function* () {
      const { broker, faults, cuts } = yield* setup()
      const trunk = yield* openTrunk(broker, 4)
      faults.stall()
      const settled: string[] = []
      const send = (name: string, ...lanes: ReadonlyArray<number>) =>
        trunk.send(
          lanes.map((lane) => stored(`${name} of ${lane}`, lane)),
          0,
          toWire,
          ({ id }, { _tag }) => settled.push(`${id}: ${_tag}`),
        )
      send("first", 0, 1, 2, 4)
      yield* Effect.promise(() => eventually(async () => assert.lengthOf(faults.accepted, 4)))
      cuts[1]!()
      send("second", 1)
      send("second", 0)
      yield* Effect.promise(() => eventually(async () => assert.lengthOf(faults.accepted, 5)))
      assert.deepStrictEqual(settled, ["first of 1: Lost", "first of 4: Lost", "second of 1: Lost"])
      assert.strictEqual(faults.accepted[4]?.id, "second of 0")
    }),
  )

  it.live.each([
    [limited, "connection limit reached"],
    [Effect.never, "no answer within 1000 ms"],
  ] as const)("that are not given are gone without, with a warning that says why", ([beyond, words]) =>
    Effect.gen(function* () {
      const { faults, layer, write, arrived } = yield* setup(2, beyond)
      yield* write(0, 100)
      const { lines } = yield* startRelay(layer)
      yield* arrived(100)
      assertInOrder(faults.accepted)
      const warning = lines.find(({ text }) => text === "the broker gives fewer connections than suit it")
      assert.deepInclude(warning?.annotations, {
        connections: 2,
        wanted: 3,
        words,
      })
    }),
  )
})
