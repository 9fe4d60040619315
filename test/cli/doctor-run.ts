/** Visits of the doctor: its checks in this process, or the program. */
import { Duration, Effect } from "effect"
import { DOCTOR_SETTINGS, type ExamineOptions, examine } from "../../src/cli/doctor/examine.ts"
import type { Finding } from "../../src/cli/doctor/finding.ts"
import { needsAction } from "../../src/cli/doctor/report.ts"
import { readConfig } from "../../src/config.ts"
import { cli } from "./program.ts"

export interface Visit {
  readonly code: number | null
  /** Without those that are well. */
  readonly findings: ReadonlyArray<Finding>
  /** Names of the checks that found something, each once, in alphabetical order. */
  readonly checks: ReadonlyArray<string>
}

type Variables = Readonly<Record<string, string>>

const visit = (code: number | null, findings: ReadonlyArray<Finding>): Visit => ({
  code,
  findings,
  checks: [...new Set(findings.map(({ check }) => check))].sort(),
})

/** What `drizzle-outbox doctor` does, without its process. */
export const doctor = async (variables: Variables, options: Partial<ExamineOptions> = {}): Promise<Visit> => {
  const config = readConfig(DOCTOR_SETTINGS, variables)
  const findings = await Effect.runPromise(
    examine(config, { longTransaction: Duration.minutes(5), ...options }),
  )
  return visit(
    needsAction(findings) === undefined ? 0 : 1,
    findings.filter(({ level }) => level !== "ok"),
  )
}

/** `drizzle-outbox doctor --json` as a process. */
export const doctorProgram = async (
  variables: Variables,
  args: ReadonlyArray<string> = [],
): Promise<Visit & { readonly stderr: string }> => {
  const { code, stdout, stderr } = await cli(["doctor", "--json", ...args], variables)
  const lines = stdout.split("\n").filter((line) => line !== "")
  return {
    ...visit(
      code,
      lines.map((line) => JSON.parse(line) as Finding),
    ),
    stderr,
  }
}
