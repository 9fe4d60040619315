/** A statement that is never answered takes no connection along for ever. */
import { assert, it } from "@effect/vitest"
import { Context, Effect, Layer } from "effect"
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
