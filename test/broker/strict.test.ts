/** Strict mode on the memory broker: what is refused, what is not, and when it looks. */
import { Context, Effect, Layer } from "effect"
import { expect, it } from "vitest"
import { Broker, type BrokerConnection } from "../../src/broker/broker.ts"
import { layerMemory, MemoryBroker } from "../../src/broker/memory.ts"
import { layerMemoryRoutes, MemoryRoutes } from "../../src/broker/memory-routes.ts"
import { layerStrict } from "../../src/broker/strict.ts"
import { brokerSuite, eventually, outgoing, settled } from "../suites/broker.ts"
import { keepLogs, type LogLine } from "../support/relay.ts"

const layers = (every: number) =>
  layerStrict({ every }).pipe(Layer.provideMerge(Layer.merge(layerMemory(), layerMemoryRoutes)))

brokerSuite("memory, strict", {
  layer: () => {
    const unrouted = Layer.effectDiscard(
      MemoryRoutes.use(({ routes }) =>
        Effect.sync(() => routes.set("/no/route", { _tag: "Nowhere", words: "nothing is bound" })),
      ),
    )
    const built = Effect.runSync(
      Effect.cached(Effect.scoped(Layer.build(unrouted.pipe(Layer.provideMerge(layers(10_000)))))),
    )
    return Layer.effectContext(built)
  },
  features: {
    refusals: [
      {
        scope: "destination",
        message: { destination: "/no/route" },
        words: /^nothing is bound$/,
        closes: false,
      },
    ],
    namesBeforeClosing: true,
    namedQueues: true,
    nackRequeues: true,
    forgetLooks: true,
  },
})

const confirmed = { _tag: "Confirmed" }
const refused = { _tag: "Refused", scope: "destination", words: "nothing is bound" }
const [good, lost] = [{ destination: "/topic/good" }, { destination: "/topic/lost" }]

interface Scene {
  readonly memory: MemoryBroker["Service"]
  readonly routes: MemoryRoutes["Service"]
  readonly connect: () => Promise<BrokerConnection>
  readonly lines: LogLine[]
}

const scene = (every: number, test: (scene: Scene) => Promise<void>) => {
  const lines: LogLine[] = []
  return Effect.gen(function* () {
    const context = yield* Effect.context<Broker | MemoryBroker | MemoryRoutes>()
    const { connect } = yield* Broker
    const [memory, routes] = [Context.get(context, MemoryBroker), Context.get(context, MemoryRoutes)]
    routes.routes.set(lost.destination, { _tag: "Nowhere", words: "nothing is bound" })
    const open = () => Effect.runPromiseWith(context)(connect() as never) as Promise<BrokerConnection>
    yield* Effect.promise(() => test({ memory, routes, connect: open, lines }))
  }).pipe(Effect.provide(layers(every)), Effect.scoped, Effect.provide(keepLogs(lines)), Effect.runPromise)
}

it("refuses what leads nowhere, sends the rest of its batch, and never gives the broker the refused", () =>
  scene(10_000, async ({ memory, connect }) => {
    const connection = await connect()
    const batch = [outgoing(lost), outgoing(good), outgoing(lost), outgoing(good)]
    expect(await settled(connection, batch)).toEqual([refused, confirmed, refused, confirmed])
    expect(memory.accepted.map(({ id }) => id)).toEqual([batch[1]?.id, batch[3]?.id])
  }))

it("looks once for any number of messages, and again when its time has come", () =>
  scene(300, async ({ routes, connect }) => {
    const connection = await connect()
    for (let round = 0; round < 20; round++)
      await settled(
        connection,
        Array.from({ length: 100 }, () => outgoing(good)),
      )
    expect(routes.looks).toBeLessThan(6)
    routes.routes.delete(lost.destination)
    await eventually(async () => expect(await settled(connection, [outgoing(lost)])).toEqual([confirmed]))
  }))

it("looks again for a connection that is opened to try a destination, for every other one, too", () =>
  scene(60_000, async ({ routes, connect }) => {
    const first = await connect()
    expect(await settled(first, [outgoing(lost)])).toEqual([refused])
    routes.routes.delete(lost.destination)
    await new Promise((resolve) => setTimeout(resolve, 1100))
    expect(await settled(first, [outgoing(lost)])).toEqual([refused])
    expect(await settled(await connect(), [outgoing(lost)])).toEqual([confirmed])
    expect(await settled(first, [outgoing(lost)])).toEqual([confirmed])
  }))

it("sends what cannot be proven, with one warning, and refuses again once it can", () =>
  scene(50, async ({ routes, connect, lines }) => {
    routes.away = "connection refused"
    routes.routes.set("/exchange/odd", { _tag: "Unknown", words: "of type x-odd" })
    const connection = await connect()
    expect(await settled(connection, [outgoing(lost)])).toEqual([confirmed])
    await new Promise((resolve) => setTimeout(resolve, 300))
    expect(routes.looks).toBeGreaterThan(2)
    const warnings = () => lines.filter(({ level }) => level === "Warn" || level === "WARN")
    expect(warnings().map(({ text }) => text)).toEqual([
      "strict: where destinations lead is not known, so everything is sent: connection refused",
    ])
    routes.away = undefined
    await eventually(async () => expect(await settled(connection, [outgoing(lost)])).toEqual([refused]))
    routes.away = "connection refused again"
    await eventually(async () => expect(await settled(connection, [outgoing(lost)])).toEqual([confirmed]))
    routes.away = undefined
    await eventually(async () => expect(await settled(connection, [outgoing(lost)])).toEqual([refused]))
    for (let round = 0; round < 10; round++) {
      expect(await settled(connection, [outgoing({ destination: "/exchange/odd" })])).toEqual([confirmed])
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
    expect(warnings()).toHaveLength(3)
    expect(warnings()[2]?.annotations).toEqual({ destination: "/exchange/odd", reason: "of type x-odd" })
  }))
