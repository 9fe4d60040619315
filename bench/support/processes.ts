/** What processes use, from /proc: on other systems it is unknown. */
import { readdirSync, readFileSync } from "node:fs"
import { join } from "node:path"
import type { Sql } from "postgres"
import type { PostgresServer } from "../../test/support/embedded-postgres.ts"
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

/** Processor time that a process, its children and those of them that have ended have used, seconds. */
export const familyCpuSeconds = (pid: number): number => {
  if (!linux) return Number.NaN
  let ticks = 0
  for (const name of readdirSync("/proc").filter((entry) => /^\d+$/.test(entry))) {
    try {
      const fields = readFileSync(`/proc/${name}/stat`, "utf8")
        .replace(/^.*\) /, "")
        .split(" ")
      if (Number(name) === pid || Number(fields[1]) === pid)
        ticks += fields.slice(11, 15).reduce((sum, field) => sum + Number(field), 0)
    } catch {
      // It has ended.
    }
  }
  return ticks / 100
}

/** The server processes of a database's clients, the bench's own left out. */
export const backendsOf = async (sql: Sql, database: string): Promise<ReadonlyArray<number>> => {
  const rows = await sql<{ pid: number }[]>`
    SELECT pid FROM pg_stat_activity
    WHERE backend_type = 'client backend' AND datname = ${database} AND application_name <> 'bench'`
  return rows.map(({ pid }) => pid)
}

/** The process that all of a server's are children of. */
export const postmasterOf = ({ folder }: PostgresServer): number =>
  Number(readFileSync(join(folder, "data", "postmaster.pid"), "utf8").split("\n", 1)[0])

/** The children of a process; none where it is not known. */
export const childrenOf = (pid: number): ReadonlyArray<number> =>
  linux
    ? readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").split(" ").filter(Boolean).map(Number)
    : []
