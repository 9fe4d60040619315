import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Layer, Schedule } from "effect"
import postgres from "postgres"
import { Broker, type Outgoing } from "../../src/broker/broker.ts"
import { layerMemory, MemoryBroker } from "../../src/broker/memory.ts"
import { runRelay } from "../../src/relay/relay.ts"
import { assertInOrder, firstArrivals } from "../support/arrivals.ts"
import { createDatabase } from "../support/postgres.ts"
import { eventually, relayLayer, startRelay, writeMessages } from "../support/relay.ts"

const database = Effect.acquireRelease(
  Effect.promise(() => createDatabase()),
  (database) => Effect.promise(() => database.drop()),
)

/** A memory broker that outlives the relays that use it. */
const broker = Effect.map(Layer.build(layerMemory()), (context) => ({
  faults: Context.get(context, MemoryBroker),
  layer: Layer.succeedContext(context),
}))

const keyOf = (message: Outgoing) => message.headers["outbox-key"]

describe("relay", () => {
  it.live("publishes what is pending, in order per key, and records it", () =>
    Effect.gen(function* () {
      const { url, sql } = yield* database
      const { faults, layer } = yield* broker
      yield* Effect.promise(() => writeMessages(sql, { count: 5000, keys: 50 }))
      yield* startRelay(relayLayer(url, layer))
      yield* Effect.promise(() =>
        eventually(async () => {
          const [row] =
            await sql`SELECT count(*)::int AS n FROM outbox.messages WHERE published_at IS NOT NULL`
          assert.strictEqual(row?.["n"], 5000)
        }),
      )
      assert.strictEqual(faults.accepted.length, 5000)
      assertInOrder(faults.accepted)
    }),
  )

  it.live("gives every message its promised headers", () =>
    Effect.gen(function* () {
      const { url, sql } = yield* database
      const { faults, layer } = yield* broker
      yield* Effect.promise(
        () =>
          sql`SELECT outbox.emit('order.placed', '/topic/orders', '{"a":1}', 'c:1', 'v2', '{"tenant":"a:b"}')`,
      )
      yield* startRelay(relayLayer(url, layer))
      yield* Effect.promise(() => eventually(() => assert.strictEqual(faults.accepted.length, 1)))
      const [sent] = faults.accepted
      const [row] = yield* Effect.promise(() => sql`SELECT * FROM outbox.messages`)
      assert.strictEqual(sent?.destination, "/topic/orders.v2")
      assert.strictEqual(sent?.body, '{"a":1}')
      assert.deepStrictEqual(sent?.headers, {
        tenant: "a:b",
        "outbox-message-id": row?.["id"],
        "outbox-event": "order.placed",
        "outbox-event-id": row?.["event_id"],
        "outbox-operation": "emit",
        "outbox-key": "c:1",
        "outbox-version": "v2",
        "outbox-position": row?.["position"],
        "outbox-time": row?.["created_at"].toISOString(),
        "dop-msg-id": row?.["id"],
        "dop-msg-destination": "/topic/orders.v2",
        "dop-msg-type": "order.placed",
        "dop-msg-sent-time": row?.["created_at"].toISOString(),
      })
    }),
  )

  it.live("never lets a later message of a key overtake one that commits late", () =>
    Effect.gen(function* () {
      const { url, sql } = yield* database
      const { faults, layer } = yield* broker
      yield* startRelay(relayLayer(url, layer))
      const write = (key: string, body: string) => (tx: typeof sql) =>
        tx`INSERT INTO outbox.messages (event, operation, destination, key, body) VALUES ('e', 'emit', '/topic/t', ${key}, ${body})`
      yield* Effect.promise(async () => {
        for (let round = 0; round < 30; round++) {
          // The first draws its position, then others commit above it, then it commits, then the same key goes on.
          await sql.begin(async (tx) => {
            await write(`k${round}`, "first")(tx as unknown as typeof sql)
            await write("other", "above")(sql)
            await new Promise((resolve) => setTimeout(resolve, round % 7))
          })
          await write(`k${round}`, "second")(sql)
        }
        await eventually(() => assert.strictEqual(faults.accepted.length, 90))
      })
      assertInOrder(faults.accepted)
    }),
  )

  it.live("forgets a gap only when every writer that could fill it has ended", () =>
    Effect.gen(function* () {
      const { url, sql } = yield* database
      const { faults, layer } = yield* broker
      yield* startRelay(relayLayer(url, layer))
      yield* Effect.promise(async () => {
        const slow = postgres(url, { max: 1 })
        await slow`BEGIN`
        await slow`INSERT INTO outbox.messages (event, operation, destination, body) VALUES ('e', 'emit', '/topic/late', '{}')`
        await sql
          .begin(async (tx) => {
            await tx`INSERT INTO outbox.messages (event, operation, destination, body) VALUES ('e', 'emit', '/topic/gone', '{}')`
            throw new Error("rolled back")
          })
          .catch(() => {})
        await writeMessages(sql, { count: 10 })
        await eventually(() => assert.strictEqual(faults.accepted.length, 10))
        await new Promise((resolve) => setTimeout(resolve, 1500))
        await slow`COMMIT`
        await slow.end()
        await eventually(() => assert.strictEqual(faults.accepted.at(-1)?.destination, "/topic/late"), 2)
        // Then the floor, which the lease writes down, has passed everything.
        await eventually(async () => {
          const [relay] = await sql`SELECT floor FROM outbox.relays`
          assert.strictEqual(Number(relay?.["floor"]), 12)
        }, 5)
      })
    }),
  )

  it.live("backs off, holds only the refused message's key, and goes on in order", () =>
    Effect.gen(function* () {
      const { url, sql } = yield* database
      const { faults, layer } = yield* broker
      let allow = false
      faults.refuse((message) => !allow && keyOf(message) === "k3", { scope: "attempt", words: "not now" })
      yield* Effect.promise(() => writeMessages(sql, { count: 400, keys: 10 }))
      const { lines } = yield* startRelay(relayLayer(url, layer), { backoff: Schedule.spaced("300 millis") })
      yield* Effect.promise(async () => {
        await eventually(() => assert.strictEqual(firstArrivals(faults.accepted).ids.size, 360))
        const held = async () => {
          const rows =
            await sql`SELECT position, attempts, last_error FROM outbox.messages WHERE published_at IS NULL ORDER BY position`
          assert.strictEqual(rows.length, 40)
          return rows
        }
        const [first, ...rest] = await eventually(async () => {
          const rows = await held()
          assert.isAtLeast(rows[0]?.["attempts"], 2)
          return rows
        })
        assert.strictEqual(first?.["last_error"], "not now")
        assert.isTrue(rest.every((row) => row["attempts"] === 0))
        allow = true
        await eventually(() => assert.strictEqual(firstArrivals(faults.accepted).ids.size, 400))
      })
      assertInOrder(faults.accepted)
      assert.isTrue(lines.some((line) => line.text === "message refused" && line.annotations["key"] === "k3"))
    }),
  )

  it.live("keeps a refused message's key held over a restart", () =>
    Effect.gen(function* () {
      const { url, sql } = yield* database
      const { faults, layer } = yield* broker
      let allow = false
      faults.refuse((message) => !allow && message.headers["outbox-position"] === "1", {
        scope: "attempt",
        words: "no",
      })
      yield* Effect.promise(() => writeMessages(sql, { count: 20, keys: 2 }))
      const options = { backoff: Schedule.spaced("1 second") }
      const first = yield* startRelay(relayLayer(url, layer), options)
      yield* Effect.promise(() =>
        eventually(() => assert.strictEqual(firstArrivals(faults.accepted).ids.size, 10)),
      )
      yield* first.stop
      yield* startRelay(relayLayer(url, layer), options)
      yield* Effect.promise(() => new Promise((resolve) => setTimeout(resolve, 400)))
      assert.strictEqual(firstArrivals(faults.accepted).ids.size, 10)
      allow = true
      yield* Effect.promise(() =>
        eventually(() => assert.strictEqual(firstArrivals(faults.accepted).ids.size, 20)),
      )
      assertInOrder(faults.accepted)
    }),
  )

  it.live("gives a message up at the maximum of attempts, says so in one line, and lets its key go on", () =>
    Effect.gen(function* () {
      const { url, sql } = yield* database
      const { faults, layer } = yield* broker
      faults.refuse((message) => message.headers["outbox-position"] === "2", {
        scope: "attempt",
        words: "never",
      })
      yield* Effect.promise(() => writeMessages(sql, { count: 5, key: "k" }))
      const { lines } = yield* startRelay(relayLayer(url, layer), {
        maxAttempts: 3,
        backoff: Schedule.spaced("100 millis"),
      })
      yield* Effect.promise(() =>
        eventually(() => assert.strictEqual(firstArrivals(faults.accepted).ids.size, 4)),
      )
      const [dead] = yield* Effect.promise(() => sql`SELECT * FROM outbox.messages WHERE dead_at IS NOT NULL`)
      assert.strictEqual(dead?.["last_error"], "refused 3 times: never")
      const deaths = lines.filter((line) => line.text === "message dead")
      assert.strictEqual(deaths.length, 1)
      assert.deepInclude(deaths[0]?.annotations, {
        id: dead?.["id"],
        event: "test",
        destination: "/topic/test",
        key: "k",
      })
      assertInOrder(faults.accepted)
    }),
  )

  it.live("holds a destination in trouble without burning attempts, and lets it flow when it is mended", () =>
    Effect.gen(function* () {
      const { url, sql } = yield* database
      const { faults, layer } = yield* broker
      const mend = faults.refuse((message) => message.destination === "/exchange/nope", {
        scope: "destination",
        words: "NOT_FOUND - no exchange 'nope'",
      })
      yield* Effect.promise(async () => {
        await writeMessages(sql, { count: 50, keys: 5, destination: "/exchange/nope" })
        await writeMessages(sql, { count: 300, keys: 5 })
        await writeMessages(sql, { count: 50, keys: 5, destination: "/exchange/nope" })
      })
      yield* startRelay(relayLayer(url, layer), { backoff: Schedule.spaced("200 millis") })
      yield* Effect.promise(async () => {
        await eventually(() => assert.strictEqual(firstArrivals(faults.accepted).ids.size, 300))
        await new Promise((resolve) => setTimeout(resolve, 1000))
        const rows =
          await sql`SELECT attempts, last_error, dead_at FROM outbox.messages WHERE published_at IS NULL ORDER BY position`
        assert.strictEqual(rows.length, 100)
        assert.isTrue(rows.every((row) => row["attempts"] === 0 && row["dead_at"] === null))
        assert.strictEqual(rows[0]?.["last_error"], "NOT_FOUND - no exchange 'nope'")
        await eventually(async () => {
          const [relay] = await sql`SELECT state FROM outbox.relays`
          assert.strictEqual(relay?.["state"].heldDestinations[0]?.destination, "/exchange/nope")
        }, 2)
        mend()
        await eventually(() => assert.strictEqual(firstArrivals(faults.accepted).ids.size, 400), 3)
      })
      assertInOrder(faults.accepted)
    }),
  )

  it.live("burns no attempts in an outage and goes on by itself", () =>
    Effect.gen(function* () {
      const { url, sql } = yield* database
      const { faults, layer } = yield* broker
      faults.confirmAfter(5)
      yield* Effect.promise(() => writeMessages(sql, { count: 3000, keys: 20 }))
      yield* startRelay(relayLayer(url, layer), { window: 200, batch: 50 })
      yield* Effect.promise(async () => {
        for (let round = 0; round < 5; round++) {
          const before = faults.accepted.length
          await eventually(() => assert.isAbove(faults.accepted.length, before + 100))
          const up = faults.down()
          await new Promise((resolve) => setTimeout(resolve, 100))
          up()
        }
        await eventually(async () => {
          const [row] =
            await sql`SELECT count(published_at)::int AS n, max(attempts) AS attempts FROM outbox.messages`
          assert.deepStrictEqual({ ...row }, { n: 3000, attempts: 0 })
        })
      })
      assert.isAtMost(faults.accepted.length, 3000 + 5 * 200)
      assertInOrder(faults.accepted)
    }),
  )

  it.live("marks dead at once what can never pass", () =>
    Effect.gen(function* () {
      const { url, sql } = yield* database
      const { faults, layer } = yield* broker
      faults.refuse((message) => message.headers["outbox-position"] === "1", {
        scope: "message",
        words: "frame too large",
      })
      yield* Effect.promise(() => writeMessages(sql, { count: 3, key: "k" }))
      yield* startRelay(relayLayer(url, layer))
      yield* Effect.promise(async () => {
        await eventually(() => assert.strictEqual(faults.accepted.length, 2), 1)
        await eventually(async () => {
          const [row] = await sql`SELECT attempts, last_error FROM outbox.messages WHERE dead_at IS NOT NULL`
          assert.deepStrictEqual({ ...row }, { attempts: 0, last_error: "frame too large" })
        }, 1)
      })
    }),
  )

  it.live("sends what is delayed when it is due, and what has expired never, with that reason", () =>
    Effect.gen(function* () {
      const { url, sql } = yield* database
      const { faults, layer } = yield* broker
      yield* startRelay(relayLayer(url, layer))
      yield* Effect.promise(async () => {
        await sql`SELECT outbox.emit('later', '/topic/t', '{}', 'k', available_at => now() + interval '1500 ms')`
        await sql`SELECT outbox.emit('over', '/topic/t', '{}', 'k', expires_at => now() - interval '1 ms')`
        await sql`SELECT outbox.emit('now', '/topic/t', '{}', 'k')`
        await eventually(() => assert.strictEqual(faults.accepted[0]?.headers["outbox-event"], "now"), 1)
        assert.strictEqual(faults.accepted.length, 1)
        await eventually(() => assert.strictEqual(faults.accepted[1]?.headers["outbox-event"], "later"), 4)
        const [dead] = await sql`SELECT event, last_error FROM outbox.messages WHERE dead_at IS NOT NULL`
        assert.deepStrictEqual(
          { ...dead },
          { event: "over", last_error: "its time to live was over before it could be published" },
        )
      })
    }),
  )

  it.live("stops sending to a blocked broker, keeps the connection, and goes on", () =>
    Effect.gen(function* () {
      const { url, sql } = yield* database
      const { faults, layer } = yield* broker
      const unblock = faults.block()
      yield* Effect.promise(() => writeMessages(sql, { count: 100, keys: 5 }))
      const { lines } = yield* startRelay(relayLayer(url, layer), { receiptTimeout: "300 millis" })
      yield* Effect.promise(async () => {
        await eventually(() => assert.isTrue(lines.some((line) => /confirms nothing/.test(line.text))))
        await new Promise((resolve) => setTimeout(resolve, 500))
        unblock()
        await eventually(() => assert.strictEqual(firstArrivals(faults.accepted).ids.size, 100))
      })
      const rows = yield* Effect.promise(
        () => sql`SELECT 1 FROM outbox.messages WHERE attempts > 0 OR dead_at IS NOT NULL`,
      )
      assert.strictEqual(rows.length, 0)
      assert.strictEqual(lines.filter((line) => line.text === "connected to the broker").length, 1)
      assertInOrder(faults.accepted)
    }),
  )

  it.live("holds the one destination whose confirmations do not come while others get theirs", () =>
    Effect.gen(function* () {
      const { url, sql } = yield* database
      const { faults, layer } = yield* broker
      faults.stall((message) => message.destination === "/topic/silent")
      yield* Effect.promise(() => writeMessages(sql, { count: 10, key: "s", destination: "/topic/silent" }))
      yield* startRelay(relayLayer(url, layer), {
        receiptTimeout: "300 millis",
        backoff: Schedule.spaced("400 millis"),
      })
      yield* Effect.promise(async () => {
        for (let i = 0; i < 20; i++) {
          await writeMessages(sql, { count: 5, keys: 5 })
          await new Promise((resolve) => setTimeout(resolve, 50))
        }
        await eventually(async () => {
          const [relay] = await sql`SELECT state FROM outbox.relays`
          assert.match(relay?.["state"].heldDestinations[0]?.words ?? "", /no receipt from \/topic\/silent/)
        })
        const [row] = await sql`SELECT count(*)::int AS n FROM outbox.messages WHERE published_at IS NOT NULL`
        assert.strictEqual(row?.["n"], 100)
      })
    }),
  )

  it.live("with once, drains and ends with a report", () =>
    Effect.gen(function* () {
      const { url, sql } = yield* database
      const { faults, layer } = yield* broker
      faults.refuse((message) => keyOf(message) === "k1", { scope: "attempt", words: "no" })
      yield* Effect.promise(() => writeMessages(sql, { count: 30, keys: 3 }))
      const report = yield* runRelay({ once: true, backoff: Schedule.spaced("1 minute") }).pipe(
        Effect.provide(relayLayer(url, layer)),
      )
      assert.deepStrictEqual(report, { published: 20, dead: 0, refused: 1, pending: 10 })
      // Again, from the floor that the first has left behind.
      yield* Effect.promise(() => writeMessages(sql, { count: 30, keys: 1 }))
      const next = yield* runRelay({ once: true, backoff: Schedule.spaced("1 minute") }).pipe(
        Effect.provide(relayLayer(url, layer)),
      )
      assert.deepStrictEqual(next, { published: 30, dead: 0, refused: 0, pending: 10 })
    }),
  )

  it.live("deletes at the settle when nothing is to be kept", () =>
    Effect.gen(function* () {
      const { url, sql } = yield* database
      const { faults, layer } = yield* broker
      yield* Effect.promise(() => writeMessages(sql, { count: 1000, keys: 3 }))
      yield* runRelay({ once: true, retention: 0 }).pipe(Effect.provide(relayLayer(url, layer)))
      assert.strictEqual(faults.accepted.length, 1000)
      const [row] = yield* Effect.promise(() => sql`SELECT count(*)::int AS n FROM outbox.messages`)
      assert.strictEqual(row?.["n"], 0)
    }),
  )

  it.live("keeps order where only one message of a key may be in flight", () =>
    Effect.gen(function* () {
      const { url, sql } = yield* database
      const memory = yield* Layer.build(layerMemory({ pipelined: false }))
      const faults = Context.get(memory, MemoryBroker)
      let refusals = 0
      faults.refuse((message) => keyOf(message) === "k2" && refusals++ % 3 === 0, {
        scope: "attempt",
        words: "no",
      })
      yield* Effect.promise(() => writeMessages(sql, { count: 2000, keys: 4 }))
      yield* startRelay(relayLayer(url, Layer.succeedContext(memory)), {
        backoff: Schedule.spaced("1 millis"),
        maxAttempts: 1000,
        window: 300,
      })
      yield* Effect.promise(() => writeMessages(sql, { count: 100, key: "k2" }))
      yield* Effect.promise(() =>
        eventually(() => assert.isAtLeast(firstArrivals(faults.accepted).ids.size, 1500)),
      )
      assertInOrder(faults.accepted)
    }),
  )

  it.live(
    "finds the one message that kills every connection without being named, and spares the others",
    () =>
      Effect.gen(function* () {
        const { url, sql } = yield* database
        const { faults, layer } = yield* broker
        yield* Effect.promise(() => writeMessages(sql, { count: 1500, keys: 20 }))
        const killer = (message: Outgoing) => message.headers["outbox-position"] === "700"
        const deadly = Layer.effect(
          Broker,
          Effect.map(Broker, ({ connect }) =>
            Broker.of({
              connect: () =>
                Effect.map(connect(), (connection) => ({
                  ...connection,
                  send: (batch, settle) => {
                    connection.send(
                      batch.filter((message) => !killer(message)),
                      settle,
                    )
                    if (batch.some(killer)) connection.destroy()
                  },
                  ended: Effect.map(
                    connection.ended,
                    () => ({ reason: "error", words: "STOMP died" }) as const,
                  ),
                })),
            }),
          ),
        ).pipe(Layer.provide(layer))
        yield* startRelay(relayLayer(url, deadly))
        yield* Effect.promise(() =>
          eventually(async () => {
            const rows =
              await sql`SELECT position, attempts, last_error FROM outbox.messages WHERE dead_at IS NOT NULL`
            assert.deepStrictEqual(
              rows.map((row) => ({ ...row })),
              [
                {
                  position: "700",
                  attempts: 0,
                  last_error: "alone in flight at 3 deaths of the connection: STOMP died",
                },
              ],
            )
            assert.strictEqual(firstArrivals(faults.accepted).ids.size, 1499)
          }, 15),
        )
        assertInOrder(faults.accepted)
      }),
  )
})
