import { assert, describe, it } from "@effect/vitest"
import { eq, sql } from "drizzle-orm"
import { drizzle } from "drizzle-orm/node-postgres"
import { Cause, Deferred, Effect, Exit, Fiber } from "effect"
import { beforeEach } from "vitest"
import { defineOutbox, OutboxError, query, transaction } from "../../src/index.ts"
import { nodePostgresPool } from "../support/node-postgres.ts"
import { items, useDatabase } from "./database.ts"

const test = useDatabase()

let nudges = 0
beforeEach(() => {
  nudges = 0
})
const { withOutbox, effect } = defineOutbox(
  {
    items: {
      table: items,
      destination: "/q",
      serializer: (i) => ({ id: i.id, bad: i.name === "bad" ? Number.NaN : 0 }),
    },
    note: { destination: "/n", serializer: (n: { text: string }) => n },
  },
  { nudge: { nudge: () => void nudges++ } },
)

const stored = Effect.promise(async () => ({
  items: (await test.db.select().from(items).orderBy(items.id)).map((item) => item.id),
  messages: (await test.messages()).map((message) => `${message.operation} ${message.body}`),
}))
/** Lets a coalesced nudge come. */
const turn = Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))

describe("transaction(db, effect)", () => {
  it.effect("commits what its operations wrote, and returns what the body returns", () =>
    Effect.gen(function* () {
      const row = yield* transaction(
        test.db,
        Effect.gen(function* () {
          const row = yield* effect.withOutbox(items, { id: 1, name: "a" })
          yield* effect.withOutbox(items, [{ id: 2, name: "b" }])
          yield* effect.withOutbox.update(items, { name: "c" }, eq(items.id, 2))
          yield* effect.withOutbox.upsert(
            items,
            { id: 3, name: "d" },
            { target: items.id, set: { name: "e" } },
          )
          yield* effect.withOutbox.delete(items, eq(items.id, 1))
          yield* effect.emit("note", { text: "t" })
          assert.strictEqual((yield* query((tx) => tx.select().from(items))).length, 2)
          return row
        }),
      )
      assert.deepStrictEqual(row, { id: 1, name: "a", twice: 2 })
      assert.deepStrictEqual(yield* stored, {
        items: [2, 3],
        messages: [
          'insert {"id":1,"bad":0}',
          'insert {"id":2,"bad":0}',
          'update {"id":2,"bad":0}',
          'upsert {"id":3,"bad":0}',
          'delete {"id":1,"bad":0}',
          'emit {"text":"t"}',
        ],
      })
    }),
  )

  it.effect("rolls back on failure and gives the typed error unchanged", () =>
    Effect.gen(function* () {
      const failed = yield* Effect.flip(
        transaction(
          test.db,
          Effect.andThen(effect.withOutbox(items, { id: 1, name: "a" }), Effect.fail("mine" as const)),
        ),
      )
      assert.strictEqual(failed, "mine")
      assert.deepStrictEqual(yield* stored, { items: [], messages: [] })
    }),
  )

  it.effect("rolls back on a defect", () =>
    Effect.gen(function* () {
      const exit = yield* Effect.exit(
        transaction(
          test.db,
          Effect.andThen(effect.withOutbox(items, { id: 1, name: "a" }), Effect.die("defect")),
        ),
      )
      assert.isTrue(Exit.isFailure(exit) && Cause.hasDies(exit.cause))
      assert.deepStrictEqual(yield* stored, { items: [], messages: [] })
    }),
  )

  it.effect("cannot commit a refused write that the body recovers from", () =>
    Effect.gen(function* () {
      const exit = yield* Effect.exit(
        transaction(test.db, Effect.ignore(effect.withOutbox(items, { id: 1, name: "bad" }))),
      )
      assert.isTrue(Exit.isFailure(exit))
      assert.deepStrictEqual(yield* stored, { items: [], messages: [] })
    }),
  )

  it.effect("tells refusals and the database's errors apart", () =>
    Effect.gen(function* () {
      const refused = yield* Effect.flip(
        transaction(test.db, effect.withOutbox(items, { id: 1, name: "bad" })),
      )
      assert.instanceOf(refused, OutboxError)
      assert.strictEqual(refused.reason, "unencodable")
      const failed = yield* Effect.flip(
        transaction(test.db, effect.withOutbox(items, { id: 1, name: sql`1 / 0` })),
      )
      assert.strictEqual(failed.reason, "database")
      assert.isFalse(failed.isRetryable)
      const retryable = yield* Effect.flip(
        transaction(
          test.db,
          query((tx) => tx.execute(sql`DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '40001'; END $$`)),
        ),
      )
      assert.isTrue(retryable.isRetryable)
    }),
  )

  it.live("has rolled back when the interruption is seen, and nothing is written later", () =>
    Effect.gen(function* () {
      const written = yield* Deferred.make<void>()
      const fiber = yield* Effect.forkChild(
        transaction(
          test.db,
          Effect.gen(function* () {
            yield* effect.withOutbox(items, { id: 1, name: "a" })
            yield* Deferred.succeed(written, undefined)
            return yield* Effect.never
          }),
        ),
      )
      yield* Deferred.await(written)
      yield* Fiber.interrupt(fiber)
      const [row] = yield* Effect.promise(
        () => test.sql`SELECT count(*)::int AS n FROM pg_stat_activity
          WHERE datname = current_database() AND state LIKE 'idle in transaction%'`,
      )
      assert.strictEqual(row?.["n"], 0)
      assert.deepStrictEqual(yield* stored, { items: [], messages: [] })
    }),
  )

  it.live("lets an operation under way end before the rollback: its message never comes alone", () =>
    Effect.gen(function* () {
      yield* Effect.promise(() =>
        test.sql.unsafe(`
          CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.4); RETURN NEW; END';
          CREATE TRIGGER slow BEFORE INSERT ON items FOR EACH ROW EXECUTE FUNCTION slow()`),
      )
      // node-postgres sends a statement that comes after the rollback; postgres.js happens to drop this one.
      const pool = nodePostgresPool(test.url, 1)
      const db = drizzle(pool)
      const fiber = yield* Effect.forkChild(transaction(db, effect.withOutbox(items, { id: 1, name: "a" })), {
        startImmediately: true,
      })
      yield* Effect.sleep("150 millis")
      yield* Fiber.interrupt(fiber)
      const busy = yield* Effect.promise(
        () => test.sql`SELECT state, query FROM pg_stat_activity
          WHERE backend_type = 'client backend' AND datname = current_database() AND pid <> pg_backend_pid() AND state <> 'idle'`,
      )
      assert.deepStrictEqual([...busy], [])
      yield* Effect.promise(() =>
        db.transaction(async (tx) => {
          for (let i = 0; i < 5; i++) await tx.execute(sql`SELECT pg_sleep(0.1)`)
        }),
      )
      yield* Effect.promise(() => pool.end())
      yield* Effect.promise(() => test.sql.unsafe(`DROP TRIGGER slow ON items`))
      assert.deepStrictEqual(yield* stored, { items: [], messages: [] })
    }),
  )

  it.effect("given a tx, is a savepoint of its own", () =>
    Effect.gen(function* () {
      yield* transaction(
        test.db,
        Effect.gen(function* () {
          yield* effect.withOutbox(items, { id: 1, name: "a" })
          const tx = yield* query(async (tx) => ({ tx }))
          yield* Effect.ignore(transaction(tx.tx, effect.withOutbox(items, { id: 2, name: "bad" })))
          yield* transaction(tx.tx, effect.withOutbox(items, { id: 3, name: "c" }))
        }),
      )
      assert.deepStrictEqual((yield* stored).items, [1, 3])
    }),
  )
})

describe("nudge", () => {
  it.effect("comes after the commit of `transaction`, and not after a rollback", () =>
    Effect.gen(function* () {
      yield* transaction(
        test.db,
        Effect.gen(function* () {
          yield* effect.withOutbox(items, { id: 1, name: "a" })
          const { tx } = yield* query(async (tx) => ({ tx }))
          yield* transaction(tx, effect.emit("note", { text: "t" }))
          yield* turn
          assert.strictEqual(nudges, 0)
        }),
      )
      yield* turn
      assert.strictEqual(nudges, 1)
      yield* Effect.ignore(
        transaction(test.db, Effect.andThen(effect.emit("note", { text: "t" }), Effect.fail("no"))),
      )
      yield* turn
      assert.strictEqual(nudges, 1)
    }),
  )

  it("comes after the commit of the Promise form", async () => {
    const row = await transaction(test.db, async (tx) => {
      const row = await withOutbox(tx, items, { id: 1, name: "a" })
      await new Promise((resolve) => setImmediate(resolve))
      assert.strictEqual(nudges, 0)
      return row
    })
    assert.strictEqual(row.id, 1)
    await new Promise((resolve) => setImmediate(resolve))
    assert.strictEqual(nudges, 1)
  })

  it("comes once a turn after writes in db.transaction, and never for nothing", async () => {
    await test.db.transaction(async (tx) => {
      await withOutbox(tx, items, [])
      await new Promise((resolve) => setImmediate(resolve))
      assert.strictEqual(nudges, 0)
      await withOutbox(tx, items, { id: 1, name: "a" })
      await new Promise((resolve) => setImmediate(resolve))
      assert.strictEqual(nudges, 1)
      await Promise.all([2, 3].map((id) => withOutbox(tx, items, { id, name: "a" })))
    })
    await new Promise((resolve) => setImmediate(resolve))
    assert.isAtMost(nudges, 3)
  })
})
