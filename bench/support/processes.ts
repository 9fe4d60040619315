/** What processes use, from /proc: on other systems it is unknown. */
import { readFileSync } from "node:fs"
import type { Sql } from "postgres"
import { cpuSecondsOf } from "../../test/support/relay-process.ts"

const linux = process.platform === "linux"

/** Resident memory of a process, MB. */
export const residentMegabytes = (pid: number): number =>
  linux
    ? Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? Number.NaN) / 1024
    : Number.NaN

/** Processor time that the processes have used, seconds; of one that has ended it is not known. */
export const cpuSeconds = (pids: ReadonlyArray<number>): number =>
  linux ? pids.reduce((sum, pid) => sum + cpuSecondsOf(pid), 0) : Number.NaN

/** The server processes of a database's clients, the bench's own left out. */
export const backendsOf = async (sql: Sql, database: string): Promise<ReadonlyArray<number>> => {
  const rows = await sql<{ pid: number }[]>`
    SELECT pid FROM pg_stat_activity
    WHERE backend_type = 'client backend' AND datname = ${database} AND application_name <> 'bench'`
  return rows.map(({ pid }) => pid)
}
