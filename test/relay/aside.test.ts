/** Brokers that close connections without a word: over one message, or because they are in trouble. */
import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Layer, Schedule } from "effect"
import { Broker, type Outgoing } from "../../src/broker/broker.ts"
import { layerMemory as brokerMemory, MemoryBroker } from "../../src/broker/memory.ts"
import { layerPolling } from "../../src/relay/wakeup.ts"
import { layerMemory, MemoryOutbox } from "../../src/store/memory.ts"
import { OutboxStore } from "../../src/store/store.ts"
import { assertInOrder, firstArrivals } from "../support/arrivals.ts"
import { eventually, type LogLine, startRelay } from "../support/relay.ts"

/** A broker that closes a connection, as in an outage, over what `closes` says of a message that comes to it. */
const setup = (connections: number, closes: (message: Outgoing) => boolean) =>
  Effect.gen(function* () {
    const memory = yield* Layer.build(layerMemory)
    const broker = yield* Layer.build(brokerMemory({ pipelined: true }))
    const outbox = Context.get(memory, MemoryOutbox)
    const closing = Broker.of({
      connect: () =>
        Effect.map(Context.get(broker, Broker).connect(), (connection) => ({
          ...connection,
          profile: { ...connection.profile, connections },
          send: (batch, settle) => {
            const at = batch.findIndex(closes)
            if (at < 0) return connection.send(batch, settle)
            // What stands before it may have been taken, and nobody hears of it.
            connection.send(batch.slice(0, at), () => {})
            connection.destroy()
            queueMicrotask(() => {
              for (let index = 0; index < batch.length; index++) settle(index, { _tag: "Lost" })
            })
          },
          ended: Effect.map(connection.ended, () => ({ reason: "outage", words: "closed" }) as const),
        })),
    })
    const write = (n: number, key: string) =>
      Effect.gen(function* () {
        const tx = yield* outbox.begin
        yield* tx.append({ event: "e", destination: "/topic/t", body: String(n), key })
        yield* tx.commit
      })
    const layer = Layer.mergeAll(
      Layer.succeed(OutboxStore, Context.get(memory, OutboxStore)),
      Layer.succeed(Broker, closing),
      layerPolling,
    )
    return { outbox, faults: Context.get(broker, MemoryBroker), layer, write }
  })
const until = (check: () => unknown, seconds = 10) =>
  Effect.promise(() => eventually(async () => void (await check()), seconds))
const relay = { backoff: Schedule.spaced("200 millis"), window: 100, batch: 50 }

describe.concurrent.each([1, 3])(
  "a broker that closes connections without a word, and has %i",
  (connections) => {
    it.live(
      "over one message: it is set aside, holds its key alone, and dies when others pass beside it",
      () =>
        Effect.gen(function* () {
          const { outbox, faults, layer, write } = yield* setup(connections, ({ body }) => body === "20")
          for (let n = 1; n <= 40; n++) yield* write(n, n % 20 === 0 ? "poisoned" : `k${n % 5}`)
          const { lines } = yield* startRelay(layer, relay)
          yield* until(() => assert.strictEqual(firstArrivals(faults.accepted).ids.size, 38))
          let n = 100
          yield* Effect.forkScoped(
            Effect.forever(Effect.suspend(() => write(n++, `k${n % 5}`)).pipe(Effect.delay(20))),
          )
          yield* until(async () => {
            const rows = await Effect.runPromise(outbox.rows)
            const dead = rows.filter(({ deadAt }) => deadAt !== null)
            assert.deepStrictEqual(
              dead.map(({ body, attempts }) => ({ body, attempts })),
              [{ body: "20", attempts: 0 }],
            )
            assert.isNotNull(rows.find(({ body }) => body === "40")?.publishedAt, "its key goes on")
          })
          assertInOrder(faults.accepted)
          assert.lengthOf(
            lines.filter(({ text }: LogLine) => text.startsWith("message set aside")),
            1,
          )
        }),
    )

    it.live("over everything, for a while: an outage, in which nothing dies and no attempt is burned", () =>
      Effect.gen(function* () {
        let trouble = true
        const { outbox, faults, layer, write } = yield* setup(connections, () => trouble)
        for (let n = 1; n <= 3; n++) yield* write(n, `k${n}`)
        yield* startRelay(layer, relay)
        yield* Effect.sleep(6000)
        trouble = false
        yield* until(() => assert.strictEqual(firstArrivals(faults.accepted).ids.size, 3))
        yield* until(async () => {
          for (const { publishedAt, attempts } of await Effect.runPromise(outbox.rows)) {
            assert.isNotNull(publishedAt)
            assert.strictEqual(attempts, 0)
          }
        })
        assertInOrder(faults.accepted)
      }),
    )

    it.live("now and then, over whatever comes: nothing dies", () =>
      Effect.gen(function* () {
        let sent = 0
        const { outbox, faults, layer, write } = yield* setup(connections, () => ++sent % 23 === 0)
        for (let n = 1; n <= 300; n++) yield* write(n, `k${n % 5}`)
        yield* startRelay(layer, relay)
        yield* until(() => assert.strictEqual(firstArrivals(faults.accepted).ids.size, 300), 30)
        yield* until(async () => {
          for (const { publishedAt } of await Effect.runPromise(outbox.rows)) assert.isNotNull(publishedAt)
        }, 20)
        assertInOrder(faults.accepted)
      }),
    )
  },
)
