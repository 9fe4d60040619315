import { Effect, Layer } from "effect"
import { describe, expect, it } from "vitest"
import { Broker, type BrokerConnection } from "../../src/broker/broker.ts"
import { layerMemory, MemoryBroker, type MemoryBrokerOptions } from "../../src/broker/memory.ts"
import { brokerSuite, eventually, outgoing, settled } from "../suites/broker.ts"

brokerSuite("memory", {
  layer: () => {
    const refusing = Layer.effectDiscard(
      MemoryBroker.use(({ refuse }) =>
        Effect.sync(() => {
          for (const scope of ["message", "destination", "attempt"] as const) {
            refuse(({ destination }) => destination === `/no/${scope}`, { scope, words: `no ${scope}` })
          }
        }),
      ),
    )
    // One broker for all connections: a layer is built anew by every `provide`.
    const built = Effect.runSync(
      Effect.cached(Effect.scoped(Layer.build(refusing.pipe(Layer.provideMerge(layerMemory()))))),
    )
    return Layer.effectContext(built)
  },
  features: {
    refusals: [
      { scope: "message", message: { destination: "/no/message" }, words: /no message/, closes: false },
      {
        scope: "destination",
        message: { destination: "/no/destination" },
        words: /no destination/,
        closes: false,
      },
      { scope: "attempt", message: { destination: "/no/attempt" }, words: /no attempt/, closes: true },
    ],
    namesBeforeClosing: true,
    namedQueues: true,
    nackRequeues: true,
    forgetLooks: true,
  },
})

const confirmed = { _tag: "Confirmed" }
const lost = { _tag: "Lost" }

const withBroker = (
  test: (broker: MemoryBroker["Service"], connect: () => Promise<BrokerConnection>) => Promise<void>,
  options?: MemoryBrokerOptions,
) =>
  Effect.gen(function* () {
    const memory = yield* MemoryBroker
    const { connect } = yield* Broker
    const context = yield* Effect.context()
    yield* Effect.promise(() => test(memory, () => Effect.runPromiseWith(context)(connect() as never)))
  }).pipe(Effect.scoped, Effect.provide(layerMemory(options)), Effect.runPromise)

describe("MemoryBroker", () => {
  it("withholds confirmations until told", () =>
    withBroker(async (memory, connect) => {
      const connection = await connect()
      const release = memory.stall(({ destination }) => destination === "/topic/slow")
      const slow = settled(connection, [outgoing({ destination: "/topic/slow" })])
      expect(await settled(connection, [outgoing({ destination: "/topic/fast" })])).toEqual([confirmed])
      expect(memory.accepted).toHaveLength(2)
      release()
      expect(await slow).toEqual([confirmed])
    }))

  it("loses at a cut what it has not confirmed, though it has accepted it", () =>
    withBroker(async (memory, connect) => {
      const connection = await connect()
      const release = memory.stall()
      const stalled = settled(connection, [outgoing()])
      await eventually(() => expect(memory.accepted).toHaveLength(1))
      memory.cut("pulled the plug")
      expect(await stalled).toEqual([lost])
      release()
      expect(await Effect.runPromise(connection.ended)).toEqual({
        reason: "outage",
        words: "pulled the plug",
      })
      expect(memory.connections()).toBe(0)
    }))

  it("takes nothing while blocked", () =>
    withBroker(async (memory, connect) => {
      const connection = await connect()
      const unblock = memory.block()
      const outcome = settled(connection, [outgoing({ body: "waits" })])
      await new Promise((resolve) => setTimeout(resolve, 30))
      expect(memory.accepted).toHaveLength(0)
      expect(connection.buffered()).toBe(5)
      unblock()
      expect(await outcome).toEqual([confirmed])
      expect(connection.buffered()).toBe(0)
    }))

  it("answers nobody while down", () =>
    withBroker(async (memory, connect) => {
      const up = memory.down()
      await expect(connect()).rejects.toMatchObject({ reason: "unreachable", isRetryable: true })
      up()
      expect(await settled(await connect(), [outgoing()])).toEqual([confirmed])
    }))

  it("confirms late", () =>
    withBroker(async (memory, connect) => {
      const connection = await connect()
      memory.confirmAfter(50)
      const started = performance.now()
      expect(await settled(connection, [outgoing()])).toEqual([confirmed])
      expect(performance.now() - started).toBeGreaterThan(45)
    }))

  it("goes on after an attempt refusal where it is not pipelined", () =>
    withBroker(
      async (memory, connect) => {
        const connection = await connect()
        const mend = memory.refuse(({ body }) => body === "bad", { scope: "attempt", words: "not now" })
        const batch = ["good", "bad", "good"].map((body) => outgoing({ body }))
        expect((await settled(connection, batch)).map(({ _tag }) => _tag)).toEqual([
          "Confirmed",
          "Refused",
          "Confirmed",
        ])
        mend()
        expect(await settled(connection, [outgoing({ body: "bad" })])).toEqual([confirmed])
      },
      { pipelined: false },
    ))

  it("a sink confirms all and keeps nothing", () =>
    withBroker(
      async (memory, connect) => {
        const connection = await connect()
        const batch = Array.from({ length: 1000 }, () => outgoing())
        expect(await settled(connection, batch)).toEqual(batch.map(() => confirmed))
        expect(memory.accepted).toHaveLength(0)
        connection.destroy()
        expect(await settled(connection, [outgoing()])).toEqual([lost])
      },
      { sink: true },
    ))
})
