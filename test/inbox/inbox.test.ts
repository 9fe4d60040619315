import { drizzle as nodePostgres } from "drizzle-orm/node-postgres"
import { drizzle as postgresJs } from "drizzle-orm/postgres-js"
import { Context, Effect, Layer } from "effect"
import { Inbox, layerMemory, layerPostgres, MemoryInbox } from "../../src/inbox/index.ts"
import type { AnyDatabase } from "../../src/outbox/transaction.ts"
import { type InboxHarness, inboxSuite } from "../suites/inbox.ts"
import { nodePostgresPool } from "../support/node-postgres.ts"
import { createDatabase, type TestDatabase } from "../support/postgres.ts"

inboxSuite(
  "memory",
  Effect.map(Layer.build(layerMemory), (context): InboxHarness => {
    const { rows, emitted } = Context.get(context, MemoryInbox)
    return {
      inbox: Context.get(context, Inbox),
      wait: (millis) => Effect.sleep(millis),
      rows: Effect.map(rows, (all) =>
        all.map((row) => ({ ...row, id: row.arrival.messageId, due: row.availableAt !== null })),
      ),
      emitted: Effect.map(emitted, (drafts) => drafts.map((draft) => draft.destination)),
    }
  }),
)

const onPostgres = (connect: (database: TestDatabase) => { db: AnyDatabase; close: () => Promise<void> }) =>
  Effect.gen(function* () {
    const database = yield* Effect.acquireRelease(
      Effect.promise(() => createDatabase()),
      ({ drop }) => Effect.promise(() => drop()),
    )
    const { db } = yield* Effect.acquireRelease(
      Effect.sync(() => connect(database)),
      ({ close }) => Effect.promise(close),
    )
    const { sql } = database
    return {
      inbox: Context.get(yield* Layer.build(layerPostgres(db)), Inbox),
      wait: (millis) => Effect.sleep(millis),
      rows: Effect.promise(
        () => sql`
          SELECT consumer, message_id AS id, state, attempts, started, available_at IS NOT NULL AS due, last_error AS "lastError"
          FROM outbox.inbox ORDER BY position`,
      ),
      emitted: Effect.promise(async () => {
        const rows = await sql`SELECT destination FROM outbox.messages ORDER BY position`
        return rows.map((row) => row["destination"] as string)
      }),
    } as InboxHarness
  })

inboxSuite(
  "postgres.js",
  onPostgres(({ sql }) => ({ db: postgresJs(sql), close: async () => {} })),
)
inboxSuite(
  "node-postgres",
  onPostgres(({ url }) => {
    const pool = nodePostgresPool(url)
    return { db: nodePostgres({ client: pool }), close: () => pool.end() }
  }),
)
