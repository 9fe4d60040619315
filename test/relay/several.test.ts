import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Layer } from "effect"
import postgres from "postgres"
import { layerMemory, MemoryBroker } from "../../src/broker/memory.ts"
import { layerPostgres } from "../../src/store/postgres.ts"
import { OutboxStore } from "../../src/store/store.ts"
import { assertInOrder, causalBreaks, firstArrivals, type Write } from "../support/arrivals.ts"
import { createDatabase } from "../support/postgres.ts"
import { eventually, relayLayer, startRelay, writeMessages } from "../support/relay.ts"

const lanesOf = (sql: postgres.Sql) =>
  sql<{ name: string; lanes: number }[]>`
    SELECT r.name, count(l.lane)::int AS lanes FROM outbox.relays r LEFT JOIN outbox.lanes l ON l.relay_id = r.id
    WHERE r.expires_at > clock_timestamp() GROUP BY r.name ORDER BY r.name`

const OTHER = "00000000-0000-4000-8000-000000000001"

const setup = Effect.gen(function* () {
  const database = yield* Effect.acquireRelease(
    Effect.promise(() => createDatabase()),
    (database) => Effect.promise(() => database.drop()),
  )
  const context = yield* Layer.build(layerMemory())
  const layer = relayLayer(database.url, Layer.succeedContext(context))
  return { ...database, layer, faults: Context.get(context, MemoryBroker) }
})

describe("several relays", () => {
  it.live("share the lanes evenly, and a stopped one is replaced within 2 s", () =>
    Effect.gen(function* () {
      const { sql, layer } = yield* setup
      const first = yield* startRelay(layer, { name: "a" })
      yield* Effect.promise(() =>
        eventually(async () => assert.deepStrictEqual([...(await lanesOf(sql))], [{ name: "a", lanes: 64 }])),
      )
      yield* startRelay(layer, { name: "b" })
      const third = yield* startRelay(layer, { name: "c" })
      yield* Effect.promise(() =>
        eventually(async () => {
          const shares = await lanesOf(sql)
          assert.deepStrictEqual(shares.map((row) => row.lanes).sort(), [20, 22, 22])
        }),
      )
      const stopped = performance.now()
      yield* Effect.all([first.stop, third.stop], { concurrency: 2 })
      yield* Effect.promise(() =>
        eventually(async () => assert.deepStrictEqual([...(await lanesOf(sql))], [{ name: "b", lanes: 64 }])),
      )
      assert.isBelow(performance.now() - stopped, 2000)
    }),
  )

  it.live("lose nothing and keep order while relays come and go and writers commit late", () =>
    Effect.gen(function* () {
      const { url, sql, layer, faults } = yield* setup
      faults.confirmAfter(3)
      const writes: Write[] = []
      const writers = 8
      const each = 250
      const keys = 40
      const write = async (writer: number) => {
        const client = postgres(url, { max: 1, onnotice: () => {} })
        for (let i = 0; i < each; i++) {
          const key = `k${(writer * 7 + i) % keys}`
          const began = performance.now()
          const position = await client.begin(async (tx) => {
            const [row] = await tx`
              INSERT INTO outbox.messages (event, operation, destination, key, body)
              VALUES ('e', 'emit', '/topic/t', ${key}, ${String(i)}) RETURNING position`
            if (i % 9 === 0) await new Promise((resolve) => setTimeout(resolve, 30))
            return Number(row?.["position"])
          })
          writes.push({ position, scope: key, began, committed: performance.now() })
        }
        await client.end()
      }
      const writing = Promise.all(Array.from({ length: writers }, (_, writer) => write(writer)))
      yield* startRelay(layer, { name: "a", window: 300, lease: "3 seconds" })
      for (let round = 0; round < 3; round++) {
        const extra = yield* startRelay(layer, { name: `x${round}`, window: 300, lease: "3 seconds" })
        yield* Effect.sleep(900)
        if (round === 1) faults.cut("the broker hiccups")
        yield* extra.stop
      }
      yield* Effect.promise(() => writing)
      yield* Effect.promise(() =>
        eventually(async () => {
          const [row] =
            await sql`SELECT count(*)::int AS n, count(published_at)::int AS published FROM outbox.messages`
          assert.deepStrictEqual({ ...row }, { n: writers * each, published: writers * each })
        }, 20),
      )
      assert.strictEqual(firstArrivals(faults.accepted).ids.size, writers * each)
      assert.deepStrictEqual(causalBreaks(faults.accepted, writes), [])
    }),
  )

  it.live(
    "a relay whose lease has run out sends no more, and starts again under a new name in the table",
    () =>
      Effect.gen(function* () {
        const { sql, layer, faults } = yield* setup
        const { lines } = yield* startRelay(layer, { name: "a", lease: "2 seconds" })
        yield* Effect.promise(() =>
          eventually(async () => assert.strictEqual((await lanesOf(sql))[0]?.lanes, 64)),
        )
        // The store forgets the relay: what an expired lease looks like from inside.
        yield* Effect.promise(() => sql`UPDATE outbox.relays SET expires_at = clock_timestamp()`)
        yield* Effect.promise(() =>
          eventually(() => assert.isTrue(lines.some((line) => /the lease ended/.test(line.text)))),
        )
        yield* Effect.promise(() => writeMessages(sql, { count: 100, keys: 5 }))
        yield* Effect.promise(() =>
          eventually(() => assert.strictEqual(firstArrivals(faults.accepted).ids.size, 100)),
        )
        assertInOrder(faults.accepted)
        const relays = yield* Effect.promise(() => sql`SELECT id FROM outbox.relays`)
        assert.isAtLeast(relays.length, 2)
      }),
  )

  it.live("reads from the beginning what it gains while it is busy with something else", () =>
    Effect.gen(function* () {
      const { url, sql, faults, layer } = yield* setup
      // Somebody else holds half of the lanes, and dies while this relay looks for what is due.
      yield* Effect.promise(async () => {
        await writeMessages(sql, { count: 1000, keys: 100 })
        await sql`INSERT INTO outbox.relays (id, name, expires_at) VALUES (${OTHER}, 'other', now() + interval '1 hour')`
        await sql`UPDATE outbox.lanes SET relay_id = ${OTHER} WHERE lane < 32`
      })
      let looks = 0
      const dies = Effect.promise(() => sql`UPDATE outbox.relays SET expires_at = now() WHERE id = ${OTHER}`)
      const slow = Layer.effect(
        OutboxStore,
        Effect.map(OutboxStore, (store) =>
          OutboxStore.of({
            ...store,
            promote: (...args) =>
              Effect.tap(store.promote(...args), () =>
                ++looks === 2 ? Effect.andThen(dies, Effect.sleep("1500 millis")) : Effect.void,
              ),
          }),
        ),
      ).pipe(Layer.provide(layerPostgres({ url })))
      yield* startRelay(Layer.merge(layer, slow))
      yield* Effect.promise(() =>
        eventually(() => assert.strictEqual(firstArrivals(faults.accepted).ids.size, 1000), 6),
      )
      assertInOrder(faults.accepted)
    }),
  )
})
