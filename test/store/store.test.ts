import { Context, Effect, Layer } from "effect"
import postgres from "postgres"
import { layerMemory, MemoryOutbox } from "../../src/store/memory.ts"
import { layerPostgres } from "../../src/store/postgres.ts"
import { OutboxStore } from "../../src/store/store.ts"
import { type StoreHarness, storeSuite } from "../suites/store.ts"
import { createDatabase } from "../support/postgres.ts"

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
    const begin: StoreHarness["begin"] = Effect.promise(async () => {
      const tx = postgres(url, { max: 1, onnotice: () => {} })
      await tx`BEGIN`
      const end = (how: "COMMIT" | "ROLLBACK") =>
        Effect.promise(async () => {
          await tx.unsafe(how)
          await tx.end()
        })
      const ahead: number[] = []
      const nextval = sql`nextval(pg_get_serial_sequence('outbox.messages', 'position'))`
      return {
        draw: Effect.promise(async () => {
          await tx`LOCK TABLE outbox.messages IN ROW EXCLUSIVE MODE`
          const [row] = await tx`SELECT ${nextval} AS position`
          const position = Number(row?.["position"])
          ahead.push(position)
          return position
        }),
        append: (message) =>
          Effect.promise(async () => {
            const position = ahead.shift()
            const at = (millis: number | undefined) => (millis === undefined ? null : new Date(millis))
            const [row] = await tx`
              INSERT INTO outbox.messages (position, event, operation, destination, key, body, available_at, expires_at)
              OVERRIDING SYSTEM VALUE
              VALUES (${position ?? nextval}, ${message.event}, 'emit', ${message.destination}, ${message.key ?? null}, ${String(message.body)},
                      ${at(message.availableAt)}, ${at(message.expiresAt)})
              RETURNING position`
            return Number(row?.["position"])
          }),
        commit: end("COMMIT"),
        rollback: end("ROLLBACK"),
      }
    })
    return {
      store: Context.get(context, OutboxStore),
      begin,
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
