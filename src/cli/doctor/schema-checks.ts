/** The outbox's own tables: their version, their indexes, their sequences, their storage settings. */
import * as Effect from "effect/Effect"
import { checkVersion } from "../../store/migrate.ts"
import { quoteSchema } from "../../store/schema-name.ts"
import type { Query } from "./database.ts"
import { type Finding, ok, problem, warning } from "./finding.ts"
import { migratedIndexes, migratedTables } from "./migrated.ts"

/** Whether the tables are those of this program. */
export const checkMigrated = async (sql: Query, schema: string): Promise<ReadonlyArray<Finding>> => {
  const table = `${quoteSchema(schema)}.migrations`
  const [found] = await sql<[{ there: boolean }]>`SELECT to_regclass(${table}) IS NOT NULL AS there`
  const [row] = found.there
    ? await sql.unsafe<[{ version: number }]>(
        `SELECT coalesce(max(version), 0)::int AS version FROM ${table}`,
      )
    : [{ version: 0 }]
  const result = Effect.runSync(Effect.result(checkVersion(row.version, schema)))
  if (result._tag === "Success")
    return [ok("database.schema", `schema "${schema}"`, `at version ${row.version}, as it should be`)]
  const [what = "", remedy = ""] = result.failure.message
    .replace(`schema "${schema}" `, "")
    .split(/: (?=run|upgrade)/)
  return [problem("database.schema", `schema "${schema}"`, what, remedy)]
}

export const checkIndexes = async (sql: Query, schema: string): Promise<ReadonlyArray<Finding>> => {
  const wanted = migratedIndexes(schema)
  const rows = await sql<{ name: string; table: string; valid: boolean; primary: boolean }[]>`
    SELECT i.relname AS name, t.relname AS table, x.indisvalid AND x.indisready AS valid, x.indisprimary AS primary
    FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_class t ON t.oid = x.indrelid
    JOIN pg_namespace n ON n.oid = t.relnamespace WHERE n.nspname = ${schema}`
  const findings: Finding[] = []
  for (const { name, table, statement } of wanted) {
    if (rows.some((row) => row.name === name && row.table === table)) continue
    findings.push(
      problem(
        "database.index",
        `index ${schema}.${name}`,
        "is missing: what reads by it reads the whole table instead",
        statement.replace(/INDEX /, "INDEX CONCURRENTLY "),
      ),
    )
  }
  for (const { name } of migratedTables(schema)) {
    if (rows.some((row) => row.table === name && row.primary)) continue
    findings.push(
      problem(
        "database.index",
        `table ${schema}.${name}`,
        "has no primary key",
        "see drizzle-outbox migrate --print for it",
      ),
    )
  }
  for (const { name, valid } of rows)
    if (!valid)
      findings.push(
        problem(
          "database.index",
          `index ${schema}.${name}`,
          "is invalid, as a CREATE INDEX CONCURRENTLY that failed leaves it: nothing is read by it",
          `REINDEX INDEX CONCURRENTLY ${quoteSchema(schema)}.${quoteSchema(name)};`,
        ),
      )
  return findings.length > 0
    ? findings
    : [ok("database.index", "indexes", `all ${wanted.length} and the primary keys are there and valid`)]
}

/** Positions in the order of their draws need a sequence without a cache. */
export const checkSequences = async (sql: Query, schema: string): Promise<ReadonlyArray<Finding>> => {
  const rows = await sql<{ table: string; cache: string }[]>`
    SELECT t.relname AS table, s.seqcache AS cache FROM pg_sequence s
    JOIN pg_depend d ON d.objid = s.seqrelid AND d.classid = 'pg_class'::regclass AND d.deptype = 'i'
    JOIN pg_class t ON t.oid = d.refobjid JOIN pg_namespace n ON n.oid = t.relnamespace
    WHERE n.nspname = ${schema} AND s.seqcache <> 1`
  return rows.length === 0
    ? [ok("database.sequence", "sequences", "draw one position at a time")]
    : rows.map(({ table, cache }) =>
        problem(
          "database.sequence",
          `sequence of ${schema}.${table}.position`,
          `has CACHE ${cache}, which breaks the order of messages; relays refuse to start`,
          `ALTER TABLE ${quoteSchema(schema)}.${quoteSchema(table)} ALTER COLUMN position SET CACHE 1;`,
        ),
      )
}

export const checkStorage = async (sql: Query, schema: string): Promise<ReadonlyArray<Finding>> => {
  const rows = await sql<{ name: string; options: string[] | null; toast: string[] | null }[]>`
    SELECT c.relname AS name, to_json(c.reloptions) AS options, to_json(t.reloptions) AS toast
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_class t ON t.oid = c.reltoastrelid
    WHERE n.nspname = ${schema} AND c.relkind IN ('r', 'p')`
  const findings: Finding[] = []
  for (const { name, storage } of migratedTables(schema)) {
    const row = rows.find((row) => row.name === name)
    if (row === undefined) continue
    const given = new Map(
      [...(row.options ?? []), ...(row.toast ?? []).map((option) => `toast.${option}`)].map((option) => {
        const [setting = "", value = ""] = option.split("=")
        return [setting, value] as const
      }),
    )
    const differing = [...storage].filter(([setting, value]) => !same(given.get(setting), value))
    if (differing.length === 0) continue
    const lock = differing.some(([setting]) => setting.endsWith("vacuum_truncate"))
      ? "; a vacuum that truncates locks everybody out while it does"
      : ""
    findings.push(
      warning(
        "database.storage",
        `table ${schema}.${name}`,
        `differs from the migration in ${differing.map(([setting]) => `${setting} (${given.get(setting) ?? "not set"})`).join(", ")}${lock}`,
        `ALTER TABLE ${quoteSchema(schema)}.${quoteSchema(name)} SET (${differing.map(([setting, value]) => `${setting} = ${value}`).join(", ")});`,
      ),
    )
  }
  return findings.length > 0
    ? findings
    : [ok("database.storage", "storage settings", "as the migrations set them")]
}

const same = (given: string | undefined, wanted: string): boolean =>
  given === wanted || (wanted === "off" && given === "false") || Number(given) === Number(wanted)
