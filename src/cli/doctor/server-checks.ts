/** The database server: what it is, how durable its commits are, what its clock says. */

import { formatMillis } from "../duration.ts"
import type { Query } from "./database.ts"
import { type Finding, ok, problem, warning } from "./finding.ts"

export const checkServer = async (sql: Query): Promise<ReadonlyArray<Finding>> => {
  const [row] = await sql<
    [{ version: string; number: number; role: string; standby: boolean; readOnly: string }]
  >`
    SELECT current_setting('server_version') AS version, current_setting('server_version_num')::int AS number,
           current_user AS role, pg_is_in_recovery() AS standby,
           current_setting('default_transaction_read_only') AS "readOnly"`
  const where = `PostgreSQL ${row.version.split(" ")[0]}`
  if (row.standby)
    return [
      problem(
        "database.standby",
        where,
        "is a standby: nothing can be written here",
        "point OUTBOX_DATABASE_URL at the primary",
      ),
    ]
  if (row.readOnly === "on")
    return [
      problem(
        "database.standby",
        where,
        `makes every transaction of "${row.role}" read-only (default_transaction_read_only)`,
        `ALTER ROLE "${row.role}" RESET default_transaction_read_only, or point OUTBOX_DATABASE_URL at a database that can be written`,
      ),
    ]
  return [ok("database.connect", where, `connected as "${row.role}"`)]
}

/** A message is as durable as the commit that wrote it. */
export const checkDurability = async (sql: Query): Promise<ReadonlyArray<Finding>> => {
  const [row] = await sql<[{ commit: string; fsync: string; pages: string }]>`
    SELECT current_setting('synchronous_commit') AS commit, current_setting('fsync') AS fsync,
           current_setting('full_page_writes') AS pages`
  const findings: Finding[] = []
  if (row.fsync === "off")
    findings.push(
      warning(
        "database.durability",
        "fsync",
        "is off: a crash of the machine loses or damages what was committed, messages included",
        "ALTER SYSTEM SET fsync = on; and reload, unless this database may be lost",
      ),
    )
  else if (row.pages === "off")
    findings.push(
      warning(
        "database.durability",
        "full_page_writes",
        "is off: a crash of the machine may damage tables",
        "ALTER SYSTEM SET full_page_writes = on; and reload, unless the file system writes pages whole",
      ),
    )
  if (row.commit === "off")
    findings.push(
      warning(
        "database.durability",
        "synchronous_commit",
        "is off for this role: a crash loses the commits of the last moments, messages that were sent already among them",
        "ALTER ROLE … SET synchronous_commit = on, at least for those who write events",
      ),
    )
  return findings.length > 0 ? findings : [ok("database.durability", "commits", "are durable")]
}

const APART_MILLIS = 1000

/** The best of several questions: what the clock said in between was said between the two looks at ours. */
export const checkClock = async (sql: Query): Promise<ReadonlyArray<Finding>> => {
  let best = { trip: Number.POSITIVE_INFINITY, ahead: 0 }
  for (let question = 0; question < 5; question++) {
    const began = performance.now()
    const before = Date.now()
    const [row] = await sql<
      [{ now: number }]
    >`SELECT extract(epoch FROM clock_timestamp())::float8 * 1000 AS now`
    const trip = performance.now() - began
    if (trip < best.trip) best = { trip, ahead: row.now - before - trip / 2 }
  }
  return [clockFinding("database.clock", "the database", best.ahead, best.trip / 2, APART_MILLIS)]
}

/** `uncertain`: milliseconds by which the answer may be off. */
export const clockFinding = (
  check: string,
  whose: string,
  ahead: number,
  uncertain: number,
  limit: number,
): Finding => {
  const where = `clocks of this machine and ${whose}`
  return Math.abs(ahead) - uncertain > limit
    ? problem(
        check,
        where,
        `are ${formatMillis(Math.abs(ahead))} apart: this machine is ${ahead > 0 ? "behind" : "ahead"}, and so are its logs and the times in its headers`,
        "synchronise both by NTP (timedatectl, chronyc tracking)",
      )
    : ok(check, where, `agree to ${formatMillis(Math.max(1, Math.round(Math.abs(ahead) + uncertain)))}`)
}
