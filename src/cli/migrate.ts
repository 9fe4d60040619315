/** `drizzle-outbox migrate` */
import * as Effect from "effect/Effect"
import { migrate, migrations, printMigrations } from "../store/migrate.ts"
import { defineCommand, print } from "./command.ts"
import { connectDatabase } from "./database.ts"
import { counted } from "./table.ts"

export const migrateCommand = defineCommand({
  name: "migrate",
  summary: "Creates or upgrades the outbox's tables.",
  details:
    "All in one transaction; what is applied already is left alone. Two may run at once: the second waits and finds nothing to do.",
  settings: ["databaseUrl", "schema"],
  options: {
    print: {
      help: "Writes the SQL of all migrations to standard output instead, for a migration folder of your own. Needs no database.",
    },
  },
  run: (config, { print: printed }) =>
    printed
      ? print(printMigrations(config.schema))
      : Effect.scoped(
          Effect.gen(function* () {
            const sql = yield* connectDatabase(config)
            const applied = yield* migrate(sql, config.schema)
            const version = migrations(config.schema).at(-1)?.version ?? 0
            yield* print(
              applied.length === 0
                ? `schema "${config.schema}" is up to date (version ${version})`
                : `schema "${config.schema}" is now at version ${version} (${counted(applied.length, "migration")} applied)`,
            )
          }),
        ),
})
