import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Layer, Schedule } from "effect"
import { Broker } from "../../src/broker/broker.ts"
import { layerMemory as brokerMemory, MemoryBroker } from "../../src/broker/memory.ts"
import { layerPolling } from "../../src/relay/wakeup.ts"
import { StoreError } from "../../src/store/error.ts"
import { layerMemory, MemoryOutbox, type NewMessage } from "../../src/store/memory.ts"
import { OutboxStore } from "../../src/store/store.ts"
import { eventually, startRelay } from "../support/relay.ts"

type Store = OutboxStore["Service"]
const setup = (options: { pipelined?: boolean; wrap?: (store: Store) => Store } = {}) =>
  Effect.gen(function* () {
    const memory = yield* Layer.build(layerMemory)
    const broker = yield* Layer.build(brokerMemory({ pipelined: options.pipelined ?? true }))
    const store = Context.get(memory, OutboxStore)
    const outbox = Context.get(memory, MemoryOutbox)
    const faults = Context.get(broker, MemoryBroker)
    const layer = Layer.mergeAll(
      Layer.succeed(OutboxStore, options.wrap?.(store) ?? store),
      Layer.succeed(Broker, Context.get(broker, Broker)),
      layerPolling,
    )
    const write = (...messages: Partial<NewMessage>[]) =>
      Effect.gen(function* () {
        const tx = yield* outbox.begin
        for (const m of messages) yield* tx.append({ event: "e", destination: "/topic/t", body: "{}", ...m })
        yield* tx.commit
      })
    const bodies = () => faults.accepted.map((m) => String(m.body))
    return { store, outbox, faults, layer, write, bodies }
  })
const until = (check: () => unknown, seconds = 5) =>
  Effect.promise(() => eventually(async () => void (await check()), seconds))

describe("relay, races", () => {
  it.live("a delayed message that is due does not overtake what was written before it and is ready", () =>
    Effect.gen(function* () {
      const { write, layer, bodies } = yield* setup()
      yield* write({ key: "k", body: "1" })
      yield* write({ key: "k", body: "2", availableAt: Date.now() - 1 })
      yield* startRelay(layer)
      yield* until(() => assert.strictEqual(bodies().length, 2))
      assert.deepStrictEqual(bodies(), ["1", "2"])
    }),
  )

  it.live("a probe refused as a message that can never pass lets its destination flow when mended", () =>
    Effect.gen(function* () {
      const { write, layer, bodies, faults } = yield* setup()
      const mend = faults.refuse((m) => m.destination === "/topic/d", {
        scope: "destination",
        words: "not found",
      })
      faults.refuse((m) => m.body === "poison", { scope: "message", words: "never" })
      yield* write(
        { destination: "/topic/d", body: "poison", key: "p" },
        { destination: "/topic/d", body: "good", key: "g" },
      )
      yield* startRelay(layer, { backoff: Schedule.spaced("200 millis") })
      yield* Effect.sleep(500)
      mend()
      yield* until(() => assert.include(bodies(), "good"), 4)
    }),
  )

  it.live(
    "a probe that ends after its lane has gone does not hold its destination in the lanes that are left",
    () =>
      Effect.gen(function* () {
        let relay = ""
        const { write, bodies, faults, store, layer, outbox } = yield* setup({
          wrap: (store) => ({
            ...store,
            tick: (tick) => {
              relay = tick.relay
              return store.tick(tick)
            },
          }),
        })
        const mend = faults.refuse((m) => m.destination === "/topic/d", {
          scope: "destination",
          words: "not found",
        })
        // Of the second connection, which is the probe's, the answers are kept until they are asked for.
        const answers: Array<() => void> = []
        let connections = 0
        const slow = Layer.effect(
          Broker,
          Effect.map(Broker, ({ connect }) => ({
            connect: (subscription) =>
              Effect.map(connect(subscription), (connection) =>
                ++connections !== 2
                  ? connection
                  : {
                      ...connection,
                      send: (batch, settle) =>
                        connection.send(batch, (index, settlement) => {
                          answers.push(() => settle(index, settlement))
                        }),
                    },
              ),
          })),
        ).pipe(Layer.provide(layer))
        yield* write({ destination: "/topic/d", body: "first", key: "p" })
        const lane = (yield* outbox.rows)[0]!.lane
        yield* startRelay(Layer.merge(layer, slow), { backoff: Schedule.spaced("200 millis") })
        yield* until(() => assert.strictEqual(answers.length, 1))
        // The lease is lost, and another relay keeps the lane of the probe.
        const before = relay
        const other = {
          relay: "other",
          name: "other",
          leaseMillis: 60_000,
          renew: true,
          floor: 0,
          state: "{}",
        }
        yield* store.release(before)
        yield* store.tick(other)
        yield* store.release(
          "other",
          Array.from({ length: 64 }, (_, index) => index).filter((index) => index !== lane),
        )
        yield* until(() => assert.notStrictEqual(relay, before))
        answers[0]!()
        mend()
        yield* write({ destination: "/topic/d", body: "second", key: "q" })
        assert.notStrictEqual((yield* outbox.rows)[1]!.lane, lane)
        yield* until(() => assert.deepStrictEqual(bodies(), ["second"]), 8)
      }),
  )

  it.live("a probe refused as an attempt holds only its key, and dies at the maximum", () =>
    Effect.gen(function* () {
      const { write, layer, bodies, faults, outbox } = yield* setup()
      const mend = faults.refuse((m) => m.destination === "/topic/d", {
        scope: "destination",
        words: "not found",
      })
      let tries = 0
      faults.refuse((m) => m.body === "poison" && ++tries > 0, { scope: "attempt", words: "no" })
      yield* write(
        { destination: "/topic/d", body: "poison", key: "p" },
        { destination: "/topic/d", body: "good", key: "g" },
      )
      yield* startRelay(layer, { backoff: Schedule.spaced("200 millis"), maxAttempts: 3 })
      yield* Effect.sleep(500)
      mend()
      yield* Effect.sleep(4000)
      const rows = yield* outbox.rows
      assert.include(bodies(), "good", `tries ${tries}, attempts in the table ${rows[0]?.attempts}`)
    }),
  )

  it.live("a key goes on when its refused message is published behind the relay's back", () =>
    Effect.gen(function* () {
      const { write, layer, bodies, faults, store, outbox } = yield* setup()
      faults.refuse((m) => m.body === "1", { scope: "attempt", words: "no" })
      yield* write({ key: "k", body: "1" }, { key: "k", body: "2" })
      yield* startRelay(layer, { backoff: Schedule.spaced("2 seconds") })
      yield* Effect.promise(() =>
        eventually(async () => assert.strictEqual((await Effect.runPromise(outbox.rows))[0]?.attempts, 1)),
      )
      yield* store.published([1], true) // the late confirmation of another relay
      yield* until(() => assert.include(bodies(), "2"), 6)
    }),
  )

  it.live("what was promoted is sent although the read after it failed", () =>
    Effect.gen(function* () {
      let fail = false
      const { write, layer, bodies } = yield* setup({
        wrap: (store) => ({
          ...store,
          promote: (lanes, limit) =>
            Effect.tap(store.promote(lanes, limit), (rows) =>
              Effect.sync(() => {
                fail = rows.length > 0
              }),
            ),
          read: (pass) =>
            Effect.suspend(() => {
              if (!fail) return store.read(pass)
              fail = false
              return Effect.fail(new StoreError({ reason: "statement", message: "connection lost" } as never))
            }),
        }),
      })
      yield* startRelay(layer)
      yield* write({ key: "k", body: "later", availableAt: Date.now() + 1500 })
      yield* until(() => assert.include(bodies(), "later"), 6)
    }),
  )

  it.live("a stop does not wait for messages in turn that are never sent", () =>
    Effect.gen(function* () {
      const { write, layer, faults } = yield* setup({ pipelined: false })
      faults.confirmAfter(50)
      yield* write(...Array.from({ length: 50 }, (_, i) => ({ key: "k", body: String(i) })))
      const relay = yield* startRelay(layer)
      yield* until(() => assert.isAbove(faults.accepted.length, 3))
      const start = performance.now()
      yield* relay.stop
      assert.isBelow(performance.now() - start, 2000)
    }),
  )

  it.live("a message that expires in flight is not called dead while the broker has it", () =>
    Effect.gen(function* () {
      const { write, layer, faults, outbox } = yield* setup({ pipelined: false })
      let refuse = true
      faults.refuse((m) => m.body === "z1" && refuse, { scope: "attempt", words: "no" })
      const confirm = faults.stall((m) => m.body === "ttl")
      yield* write(
        { key: "z", body: "z1" },
        { key: "z", body: "z2" },
        { key: "a", body: "ttl", expiresAt: Date.now() + 600 },
      )
      const { lines } = yield* startRelay(layer, { backoff: Schedule.spaced("900 millis") })
      yield* until(() => assert.strictEqual(faults.accepted.length, 1), 2)
      refuse = false
      // z1 passes: z2 is read again, and with it what is in flight behind it.
      yield* until(() => assert.strictEqual(faults.accepted.length, 3), 5)
      yield* Effect.sleep(300)
      confirm()
      yield* Effect.sleep(300)
      const row = (yield* outbox.rows)[2]
      assert.strictEqual(lines.filter((l) => l.text === "message dead").length, 0, JSON.stringify(row))
    }),
  )

  it.live("no more than the window is sent and unrecorded", () =>
    Effect.gen(function* () {
      const { write, layer, faults } = yield* setup({
        wrap: (store) => ({ ...store, published: () => Effect.never }),
      })
      yield* write(...Array.from({ length: 5000 }, (_, i) => ({ body: String(i) })))
      yield* startRelay(layer, { window: 100 })
      yield* Effect.sleep(2000)
      assert.isAtMost(faults.accepted.length, 300)
    }),
  )

  it.live("a refusal whose verdict waits for the database over a lost lease holds its key", () =>
    Effect.gen(function* () {
      let away = false
      const gone = new StoreError({ reason: "unavailable", message: "database away" } as never)
      const { write, layer, faults, bodies } = yield* setup({
        pipelined: false,
        wrap: (store) => {
          const out = <A>(run: Effect.Effect<A, StoreError>) =>
            Effect.suspend((): Effect.Effect<A, StoreError> => (away ? Effect.fail(gone) : run))
          return {
            ...store,
            judge: (v) => out(store.judge(v)),
            tick: (t) => out(store.tick(t)),
            read: (p) => out(store.read(p)),
            promote: (l, n) => out(store.promote(l, n)),
            published: (p, k) => out(store.published(p, k)),
            refused: (l) => out(store.refused(l)),
          }
        },
      })
      let refuse = true
      faults.refuse(
        (m) => {
          if (m.body !== "1" || !refuse) return false
          away = true
          return true
        },
        {
          scope: "attempt",
          words: "no",
        },
      )
      yield* write({ key: "k", body: "1" }, { key: "k", body: "2" }, { key: "k", body: "3" })
      yield* startRelay(layer, { lease: "2 seconds", backoff: Schedule.spaced("3 seconds") })
      yield* until(() => assert.isTrue(away))
      yield* Effect.sleep(3000) // the lease ends
      refuse = false
      away = false
      yield* until(() => assert.isAtLeast(bodies().length, 1), 10)
      assert.strictEqual(bodies()[0], "1", JSON.stringify(bodies()))
    }),
  )
})
