/** The connection of a command that looks at the outbox and ends. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Sql } from "postgres"
import { type Config, required } from "../config.ts"
import { connect } from "../store/connect.ts"
import type { StoreError } from "../store/error.ts"
import { checkSchema } from "../store/migrate.ts"

/** One connection, tried at once, without prepared statements (a transaction pooler has none). It closes with the scope. */
export const connectDatabase = (config: Config<"databaseUrl">): Effect.Effect<Sql, StoreError, Scope.Scope> =>
  connect({ url: required("databaseUrl", config), connections: 1, prepare: false })

/** Such a connection to an outbox whose tables are those that this program knows. */
export const connectOutbox = (
  config: Config<"databaseUrl" | "schema">,
): Effect.Effect<Sql, StoreError, Scope.Scope> =>
  connectDatabase(config).pipe(Effect.tap((sql) => checkSchema(sql, config.schema)))
