/** The outbox's own migrations: numbered SQL files, frozen once released, applied in order. */
import { readdirSync, readFileSync } from "node:fs"
import * as Effect from "effect/Effect"
import type { Sql } from "postgres"
import { StoreError, storeError } from "./error.ts"
import { quoteSchema } from "./schema-name.ts"

/** One numbered file of `migrations/`. */
export interface Migration {
  readonly version: number
  readonly name: string
  readonly sql: string
}

/** The migrations shipped with this version of the package, written for `schema` (default "outbox"). */
export const migrations = (schema = "outbox"): ReadonlyArray<Migration> => {
  const folder = new URL("../../migrations/", import.meta.url)
  const quoted = quoteSchema(schema)
  return readdirSync(folder)
    .filter((name) => /^\d{4}_.*\.sql$/.test(name))
    .sort()
    .map((name) => ({
      version: Number(name.slice(0, 4)),
      name,
      sql: writtenFor(quoted, readFileSync(new URL(name, folder), "utf8")),
    }))
}

/** A name may hold line ends, which would end a comment, and dollars, which would end a function's text. */
const writtenFor = (quoted: string, text: string): string => {
  let quote = "$$"
  while (quoted.includes(quote)) quote = `$q${quote.slice(1)}`
  return text
    .split("\n")
    .map((line) =>
      line.startsWith("--") ? line : line.replaceAll("$$", () => quote).replaceAll('"outbox"', () => quoted),
    )
    .join("\n")
}

/** Everything `migrate` would run on an empty database, as one SQL text for a migration folder of the user's own. */
export const printMigrations = (schema = "outbox"): string =>
  migrations(schema)
    .map(({ name, sql }) => `-- drizzle-outbox ${name}\n${sql}`)
    .join("\n")

/**
 * Applies what is missing, in one transaction, and gives the versions applied.
 *
 * Idempotent; when two run at once, the second waits for the first and finds nothing to do.
 */
export const migrate = (sql: Sql, schema = "outbox"): Effect.Effect<ReadonlyArray<number>, StoreError> =>
  Effect.tryPromise({
    try: () =>
      sql.begin(async (tx) => {
        // Whoever migrates may do much: what others have put onto its search_path is not for it.
        await tx`SET LOCAL search_path = pg_catalog, pg_temp`
        await tx`SELECT pg_advisory_xact_lock(hashtextextended(${`drizzle-outbox migrate ${schema}`}, 0))`
        const current = await versionOf(tx, schema)
        const missing = migrations(schema).filter(({ version }) => version > current)
        for (const migration of missing) await tx.unsafe(migration.sql)
        return missing.map(({ version }) => version)
      }),
    catch: (cause) => storeError(`migrate schema "${schema}"`, cause),
  })

const commandFor = (schema: string): string =>
  `drizzle-outbox migrate${schema === "outbox" ? "" : ` --schema ${/^[\w.-]+$/.test(schema) ? schema : `'${schema.replaceAll("'", "'\\''")}'`}`}`

/** Fails with one sentence when the database's schema is not the one this program was built for. */
export const checkSchema = (sql: Sql, schema = "outbox"): Effect.Effect<void, StoreError> =>
  Effect.tryPromise({
    try: () => versionOf(sql, schema),
    catch: (cause) => storeError(`read the version of schema "${schema}"`, cause),
  }).pipe(Effect.flatMap((version) => checkVersion(version, schema)))

/** The same for a version that was read by other means; 0 without the tables. */
export const checkVersion = (version: number, schema: string): Effect.Effect<void, StoreError> => {
  const wanted = migrations(schema).at(-1)?.version ?? 0
  if (version === wanted) return Effect.void
  return Effect.fail(
    new StoreError({
      reason: "schema",
      message:
        version === 0
          ? `schema "${schema}" has no outbox tables: run "${commandFor(schema)}"`
          : version < wanted
            ? `schema "${schema}" is at version ${version} and this program needs ${wanted}: run "${commandFor(schema)}"`
            : `schema "${schema}" is at version ${version}, newer than this program (${wanted}): upgrade drizzle-outbox`,
    }),
  )
}

const versionOf = async (
  sql: Sql | Parameters<Parameters<Sql["begin"]>[1]>[0],
  schema: string,
): Promise<number> => {
  const table = `${quoteSchema(schema)}.migrations`
  const [found] = await sql<[{ exists: boolean }]>`SELECT to_regclass(${table}) IS NOT NULL AS "exists"`
  if (!found.exists) return 0
  const [row] = await sql.unsafe<[{ version: number }]>(
    `SELECT coalesce(max("version"), 0)::int AS "version" FROM ${table}`,
  )
  return row.version
}
