/** What a database's transactions are by default decides whether an inbox can work in them. */
import { assert, it } from "@effect/vitest"
import { drizzle } from "drizzle-orm/postgres-js"
import { Context, Effect, Layer } from "effect"
import postgres from "postgres"
import { Inbox, layerPostgres } from "../../src/inbox/index.ts"
import { createDatabase } from "../support/postgres.ts"

it.each([
  ["default_transaction_isolation", "repeatable read", "read committed"],
  ["default_transaction_deferrable", "on", "off"],
])("with %s = %s it does not open, and says what to set", async (setting, value, remedy) => {
  const database = await createDatabase()
  const client = postgres(database.url, { max: 1, connection: { [setting]: value } })
  try {
    const context = await Effect.runPromise(Effect.scoped(Layer.build(layerPostgres(drizzle({ client })))))
    const error = await Effect.runPromise(Effect.flip(Context.get(context, Inbox).open))
    assert.strictEqual(error.reason, "schema")
    assert.include(error.message, `set ${setting} to "${remedy}"`)
    assert.isFalse(error.isRetryable)
    await client`SELECT set_config(${setting}, ${remedy}, false)`
    await Effect.runPromise(Context.get(context, Inbox).open)
  } finally {
    await client.end()
    await database.drop()
  }
})
