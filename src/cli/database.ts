/** The connection of a command that looks at the outbox and ends. */
import { Effect, Redacted, type Scope } from "effect"
import postgres, { type Sql } from "postgres"
import { type Config, required } from "../config.ts"
import { StoreError, storeError } from "../store/error.ts"
import { checkSchema } from "../store/migrate.ts"

/** One connection, tried at once, without prepared statements (a transaction pooler has none). It closes with the scope. */
export const connectDatabase = (
  config: Config<"databaseUrl">,
): Effect.Effect<Sql, StoreError, Scope.Scope> => {
  const url = Redacted.value(required("databaseUrl", config))
  return Effect.acquireRelease(
    Effect.try({
      try: () =>
        postgres(url, {
          max: 1,
          onnotice: () => {},
          connect_timeout: 10,
          fetch_types: false,
          prepare: false,
          connection: { application_name: "drizzle-outbox", TimeZone: "UTC", DateStyle: "ISO" },
        }),
      // The driver's own words could quote the URL.
      catch: () =>
        new StoreError({
          reason: "statement",
          message: "the database URL is not one: expected postgres://user:password@host:port/database",
        }),
    }),
    (sql) => Effect.promise(() => sql.end({ timeout: 2 })),
  ).pipe(
    Effect.tap((sql) =>
      Effect.tryPromise({
        try: () => sql`SELECT 1`,
        catch: (cause) => storeError("connect to the database", cause),
      }),
    ),
  )
}

/** Such a connection to an outbox whose tables are those that this program knows. */
export const connectOutbox = (
  config: Config<"databaseUrl" | "schema">,
): Effect.Effect<Sql, StoreError, Scope.Scope> =>
  connectDatabase(config).pipe(Effect.tap((sql) => checkSchema(sql, config.schema)))
