/** Neither a statement that is never answered nor a connection that has died takes others along. */
import { assert, it } from "@effect/vitest"
import { Context, Effect, Layer, Option } from "effect"
import { layerPostgres } from "../../src/store/postgres.ts"
import { OutboxStore } from "../../src/store/store.ts"
import { createDatabase } from "../support/postgres.ts"

it.live("what has no answer within its time fails as unavailable, and others go on", () =>
  Effect.gen(function* () {
    const { url, sql } = yield* Effect.acquireRelease(
      Effect.promise(() => createDatabase()),
      (database) => Effect.promise(() => database.drop()),
    )
    const context = yield* Layer.build(layerPostgres({ url, connections: 1, statementTimeout: "500 millis" }))
    const store = Context.get(context, OutboxStore)
    const locked = yield* Effect.promise(() => sql.reserve())
    yield* Effect.promise(() => locked`BEGIN`)
    yield* Effect.promise(() => locked`LOCK TABLE outbox.messages IN ACCESS EXCLUSIVE MODE`)
    const failed = yield* Effect.flip(store.counts)
    assert.deepInclude({ ...failed }, { reason: "unavailable" })
    assert.match(failed.message, /could not count messages: the database has not answered for 500 ms/)
    // Its only connection still waits for the lock.
    yield* store.release("00000000-0000-4000-8000-000000000001")
    yield* Effect.promise(() => locked`ROLLBACK`)
    locked.release()
    assert.strictEqual((yield* store.counts).pending, 0)
  }),
)

it.live("connections that all die at once, again and again, leave none that cannot open", () =>
  Effect.gen(function* () {
    const { url, sql } = yield* Effect.acquireRelease(
      Effect.promise(() => createDatabase()),
      (database) => Effect.promise(() => database.drop()),
    )
    const store = Context.get(yield* Layer.build(layerPostgres({ url })), OutboxStore)
    const end = performance.now() + 4000
    let failures = 0
    const asking = Effect.gen(function* () {
      while (performance.now() < end) {
        const counted = yield* Effect.result(store.counts)
        // At once, in the very moment in which others of the pool are dying.
        if (counted._tag === "Failure") failures++
      }
    })
    const killing = Effect.gen(function* () {
      while (performance.now() < end) {
        yield* Effect.sleep(100)
        yield* Effect.promise(
          () => sql`
            SELECT pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name = 'drizzle-outbox'`,
        )
      }
    })
    const all = Effect.all([killing, ...Array.from({ length: 8 }, () => asking)], {
      concurrency: "unbounded",
    })
    const done = yield* Effect.timeoutOption(all, "7 seconds")
    assert.isAbove(failures, 20)
    assert.isTrue(Option.isSome(done), "a statement waits for a connection that never opens")
  }),
)
