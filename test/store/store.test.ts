import { Context, Effect, Layer } from "effect"
import { layerMemory, MemoryOutbox } from "../../src/store/memory.ts"
import { layerPostgres } from "../../src/store/postgres.ts"
import { OutboxStore } from "../../src/store/store.ts"
import { type StoreHarness, storeSuite } from "../suites/store.ts"
import { createDatabase } from "../support/postgres.ts"
import { beginOn } from "../support/store-transaction.ts"

const stateOf = (row: { readonly publishedAt: unknown; readonly deadAt: unknown }) =>
  row.publishedAt !== null ? "published" : row.deadAt !== null ? "dead" : "pending"

storeSuite(
  "memory",
  Effect.map(Layer.build(layerMemory), (context): StoreHarness => {
    const { begin, rows } = Context.get(context, MemoryOutbox)
    return {
      store: Context.get(context, OutboxStore),
      begin,
      wait: (millis) => Effect.sleep(millis),
      states: Effect.map(rows, (all) => all.map((row) => ({ ...row, state: stateOf(row) }))),
    }
  }),
)

storeSuite(
  "postgres",
  Effect.gen(function* () {
    const { url, sql } = yield* Effect.acquireRelease(
      Effect.promise(() => createDatabase()),
      (database) => Effect.promise(() => database.drop()),
    )
    const context = yield* Effect.orDie(Layer.build(layerPostgres({ url })))
    return {
      store: Context.get(context, OutboxStore),
      begin: beginOn(url),
      wait: (millis) => Effect.sleep(millis),
      states: Effect.promise(async () => {
        const rows = await sql`SELECT * FROM outbox.messages ORDER BY position`
        return rows.map((row) => ({
          position: Number(row["position"]),
          state: stateOf({ publishedAt: row["published_at"], deadAt: row["dead_at"] }),
          attempts: row["attempts"],
          lastError: row["last_error"],
        }))
      }),
    }
  }),
)
