/** What holds back vacuum, and relays: old transactions, prepared ones, replication slots. */
import { quoteSchema } from "../../store/schema-name.ts"
import { formatMillis } from "../duration.ts"
import { clipped } from "../table.ts"
import type { Query } from "./database.ts"
import { type Finding, ok, problem, unchecked, warning } from "./finding.ts"

/** `olderMillis`: from which age on a transaction is told. */
export const checkTransactions = async (
  sql: Query,
  schema: string,
  olderMillis: number,
): Promise<ReadonlyArray<Finding>> => {
  const [may] = await sql<[{ all: boolean }]>`
    SELECT pg_has_role(current_user, 'pg_read_all_stats', 'USAGE') AS "all"`
  const rows = await sql<
    {
      pid: number
      millis: number
      state: string
      application: string
      role: string
      writer: boolean
      query: string
    }[]
  >`
    SELECT a.pid, extract(epoch FROM clock_timestamp() - a.xact_start)::float8 * 1000 AS millis,
           coalesce(a.state, '?') AS state, a.application_name AS application, coalesce(a.usename, '?') AS role,
           coalesce(a.query, '') AS query,
           EXISTS (SELECT FROM pg_locks l WHERE l.pid = a.pid AND l.locktype = 'relation' AND l.mode = 'RowExclusiveLock'
                   AND l.granted AND l.relation = to_regclass(${`${quoteSchema(schema)}.messages`}::text)) AS writer
    FROM pg_stat_activity a
    WHERE a.datname = current_database() AND a.pid <> pg_backend_pid() AND a.backend_type = 'client backend'
      AND a.xact_start < clock_timestamp() - ${olderMillis}::float8 * interval '1 ms'
    ORDER BY a.xact_start LIMIT 20`
  const findings = rows.map(({ pid, millis, state, application, role, writer, query }) =>
    problem(
      writer ? "database.open-writer" : "database.long-transaction",
      `transaction of pid ${pid}${application === "" ? "" : ` (${application})`}`,
      `open for ${formatMillis(millis)} as "${role}", ${state}${writer ? "; it has written to the outbox: its messages wait for its commit, and relays watch its gap until then" : ""}; vacuum removes nothing that is younger. Last statement: ${clipped(query.replace(/\s+/g, " "), 80)}`,
      `find out what it waits for, or end it: SELECT pg_terminate_backend(${pid}); against the next one, SET idle_in_transaction_session_timeout`,
    ),
  )
  if (!may.all)
    return [
      ...findings,
      unchecked(
        "database.long-transaction",
        "transactions of other roles",
        "may not be seen by this role",
        "GRANT pg_read_all_stats TO it, or run doctor as a role that has it",
      ),
    ]
  return findings.length > 0
    ? findings
    : [ok("database.long-transaction", "transactions", `none is open for ${formatMillis(olderMillis)}`)]
}

export const checkPrepared = async (sql: Query, olderMillis: number): Promise<ReadonlyArray<Finding>> => {
  const rows = await sql<{ gid: string; millis: number; owner: string }[]>`
    SELECT gid, owner, extract(epoch FROM clock_timestamp() - prepared)::float8 * 1000 AS millis
    FROM pg_prepared_xacts WHERE database = current_database()
      AND prepared < clock_timestamp() - ${olderMillis}::float8 * interval '1 ms'
    ORDER BY prepared LIMIT 20`
  return rows.length === 0
    ? [ok("database.prepared", "prepared transactions", "none is left behind")]
    : rows.map(({ gid, owner, millis }) =>
        problem(
          "database.prepared",
          `prepared transaction ${JSON.stringify(gid)}`,
          `of "${owner}" waits for its end for ${formatMillis(millis)}, through restarts, too: it keeps its locks, and vacuum removes nothing that is younger`,
          `COMMIT PREPARED or ROLLBACK PREPARED '${gid.replaceAll("'", "''")}';`,
        ),
      )
}

export const checkSlots = async (sql: Query): Promise<ReadonlyArray<Finding>> => {
  const rows = await sql<{ name: string; type: string; held: number | null }[]>`
    SELECT slot_name AS name, slot_type AS type, age(xmin) AS held FROM pg_replication_slots
    WHERE NOT active AND (xmin IS NOT NULL OR catalog_xmin IS NOT NULL OR restart_lsn IS NOT NULL)
    ORDER BY slot_name LIMIT 20`
  return rows.length === 0
    ? [ok("database.slot", "replication slots", "none is left behind")]
    : rows.map(({ name, type, held }) => {
        const remedy = `bring its reader back, or SELECT pg_drop_replication_slot('${name.replaceAll("'", "''")}');`
        return held === null
          ? warning(
              "database.slot",
              `${type} replication slot ${name}`,
              "has no reader: it keeps WAL until the disk is full",
              remedy,
            )
          : problem(
              "database.slot",
              `${type} replication slot ${name}`,
              `has no reader and holds back vacuum by ${held.toLocaleString("en")} transactions`,
              remedy,
            )
      })
}
