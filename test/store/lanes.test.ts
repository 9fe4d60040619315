/** Who gets the lanes when two relays ask at the same moment: statements of a real database, of which one is made to wait. */
import { randomUUID } from "node:crypto"
import { Context, Effect, Layer } from "effect"
import { afterEach, beforeEach, expect, it } from "vitest"
import { layerPostgres } from "../../src/store/postgres.ts"
import { OutboxStore, type Share } from "../../src/store/store.ts"
import { createDatabase, type TestDatabase } from "../support/postgres.ts"
import { eventually } from "../support/relay.ts"

let database: TestDatabase
beforeEach(async () => {
  database = await createDatabase()
})
afterEach(() => database.drop())

it("nobody takes what another took after its own statement began", async () => {
  const { sql } = database
  await Effect.gen(function* () {
    const store = Context.get(yield* Layer.build(layerPostgres({ url: database.url })), OutboxStore)
    const tick = (relay: string) =>
      Effect.runPromise(
        store.tick({ relay, name: relay, leaseMillis: 60_000, renew: true, floor: 0, state: "{}" }),
      )
    const [first, late] = [randomUUID(), randomUUID()]
    yield* Effect.promise(async () => {
      let waiting: Promise<Share> | undefined
      const rollback = new Error("rolled back")
      await sql
        .begin(async (tx) => {
          // The late one's own row is being written by somebody: its statement has begun, and waits.
          await tx`INSERT INTO outbox.relays (id, name, expires_at, floor, state) VALUES (${late}, 'x', now(), 0, '{}')`
          waiting = tick(late)
          await eventually(async () => {
            const [row] = await sql`SELECT count(*)::int AS n FROM pg_locks WHERE NOT granted`
            expect(row?.["n"]).toBe(1)
          })
          expect((await tick(first)).lanes.size).toBe(64)
          throw rollback
        })
        .catch((error) => expect(error).toBe(rollback))
      expect((await waiting)?.lanes.size).toBe(0)
      const held = await sql`SELECT relay_id AS id, count(*)::int AS n FROM outbox.lanes GROUP BY 1`
      expect(held).toEqual([{ id: first, n: 64 }])
    })
  }).pipe(Effect.scoped, Effect.runPromise)
})
