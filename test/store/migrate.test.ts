import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import postgres from "postgres"
import { checkSchema, migrate, migrations, printMigrations } from "../../src/store/migrate.ts"
import { createDatabase } from "../support/postgres.ts"

describe("migrate", () => {
  it("applies everything once, also when two run at the same moment", async () => {
    const database = await createDatabase({ template: "none" })
    const other = postgres(database.url, { max: 1 })
    const all = migrations().map(({ version }) => version)
    const runs = await Promise.all(
      [migrate(database.sql), migrate(other)].map((run) => Effect.runPromise(run)),
    )
    assert.deepStrictEqual(
      runs.toSorted((a, b) => b.length - a.length),
      [all, []],
    )
    assert.deepStrictEqual(await Effect.runPromise(migrate(database.sql)), [])
    await Effect.runPromise(checkSchema(database.sql))
    await other.end()
    await database.drop()
  })

  it("keeps several schemas apart in one database, whatever their names", async () => {
    const database = await createDatabase({ template: "none" })
    for (const schema of ["outbox", `Team "B"; drop schema outbox`]) {
      await Effect.runPromise(migrate(database.sql, schema))
      const quoted = database.sql(schema)
      const [row] = await database.sql`
        INSERT INTO ${quoted}.messages (event, operation, destination, body) VALUES ('e', 'emit', '/queue/a', '{}') RETURNING id`
      assert.match(String(row?.["id"]), /^[0-9a-f]{8}-[0-9a-f]{4}-7/)
    }
    await database.drop()
  })

  it("names the command to run when the schema is missing or older or newer", async () => {
    const database = await createDatabase({ template: "none" })
    const message = () =>
      Effect.runPromise(Effect.flip(checkSchema(database.sql))).then((error) => error.message)
    assert.match(await message(), /no outbox tables: run "drizzle-outbox migrate"/)
    await Effect.runPromise(migrate(database.sql))
    await database.sql`INSERT INTO outbox.migrations (version) VALUES (9999)`
    assert.match(await message(), /newer than this program .* upgrade drizzle-outbox/)
    await database.drop()
  })

  it("prints SQL that makes the same schema", async () => {
    const database = await createDatabase({ template: "none" })
    await database.sql.unsafe(printMigrations("printed"))
    await Effect.runPromise(checkSchema(database.sql, "printed"))
    await database.drop()
  })
})
