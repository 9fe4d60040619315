/** Whether vacuum keeps up with the outbox's tables. */
import { quoteSchema } from "../../store/schema-name.ts"
import type { Query } from "./database.ts"
import { type Finding, ok, problem } from "./finding.ts"

/** Rows from which on a table must have been vacuumed once, and from which on its dead ones count. */
const BIG = 100_000
const MANY_DEAD = 50_000
const DEAD_SHARE = 0.2

export const checkVacuum = async (sql: Query, schema: string): Promise<ReadonlyArray<Finding>> => {
  const [server] = await sql<[{ autovacuum: string; counts: string }]>`
    SELECT current_setting('autovacuum') AS autovacuum, current_setting('track_counts') AS counts`
  const rows = await sql<{ name: string; live: string; dead: string; vacuumed: boolean; off: boolean }[]>`
    SELECT s.relname AS name, s.n_live_tup AS live, s.n_dead_tup AS dead,
           s.last_vacuum IS NOT NULL OR s.last_autovacuum IS NOT NULL AS vacuumed,
           coalesce(c.reloptions && ARRAY['autovacuum_enabled=false', 'autovacuum_enabled=off'], false) AS off
    FROM pg_stat_all_tables s JOIN pg_class c ON c.oid = s.relid WHERE s.schemaname = ${schema}`
  const findings: Finding[] = []
  if (server.autovacuum === "off" || server.counts === "off")
    findings.push(
      problem(
        "database.autovacuum",
        server.autovacuum === "off" ? "autovacuum" : "track_counts",
        "is off: tables grow for ever, and reads slow down",
        "ALTER SYSTEM SET autovacuum = on; ALTER SYSTEM SET track_counts = on; and reload",
      ),
    )
  for (const { name, live, dead, vacuumed, off } of rows) {
    const [living, gone] = [Number(live), Number(dead)]
    const table = `${quoteSchema(schema)}.${quoteSchema(name)}`
    const where = `table ${schema}.${name}`
    if (off)
      findings.push(
        problem(
          "database.autovacuum",
          where,
          "has autovacuum switched off",
          `ALTER TABLE ${table} RESET (autovacuum_enabled);`,
        ),
      )
    if (!vacuumed && living + gone >= BIG)
      findings.push(
        problem(
          "database.never-vacuumed",
          where,
          `has about ${(living + gone).toLocaleString("en")} rows and was never vacuumed`,
          `VACUUM ANALYZE ${table}; and see why autovacuum does not come (its log, autovacuum_max_workers)`,
        ),
      )
    if (gone >= MANY_DEAD && gone > DEAD_SHARE * (living + gone))
      findings.push(
        problem(
          "database.dead-rows",
          where,
          `has ${gone.toLocaleString("en")} row versions that vacuum should have removed beside ${living.toLocaleString("en")} that live`,
          `VACUUM (VERBOSE) ${table}; says what holds it back: old transactions, prepared ones or replication slots`,
        ),
      )
  }
  return findings.length > 0 ? findings : [ok("database.autovacuum", "vacuum", "keeps up")]
}
