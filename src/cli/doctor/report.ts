/** Findings as people and as monitors read them. */
import { withoutSecrets } from "../secret.ts"
import { counted, visible, wrap } from "../table.ts"
import type { Finding, Level } from "./finding.ts"

const MARKS: Readonly<Record<Level, string>> = {
  ok: "ok",
  unchecked: "--",
  warning: "warning",
  problem: "PROBLEM",
}
const INDENT = 10
const WIDTH = 110

/** In their order: what is well on one line each, the rest with its remedy below it. */
export const readableFindings = (findings: ReadonlyArray<Finding>): string =>
  `${findings.map((finding) => withoutSecrets(readable(finding))).join("\n")}\n`

const readable = ({ level, where, what, remedy, check }: Finding): string => {
  const head = `${where}: ${what}${level === "ok" ? "" : ` [${check}]`}`
  const lines = [hanging(visible(head))]
  if (remedy !== undefined) lines.push(hanging(visible(`→ ${remedy}`)))
  lines[0] = `${MARKS[level].padEnd(INDENT)}${lines[0]?.trimStart()}`
  return lines.join("\n")
}

const hanging = (text: string): string => wrap(text, WIDTH - INDENT).replace(/^/gm, " ".repeat(INDENT))

/** One JSON object a line, without what is well. */
export const jsonFindings = (findings: ReadonlyArray<Finding>): string =>
  findings
    .filter(({ level }) => level !== "ok")
    .map((finding) => `${withoutSecrets(JSON.stringify(finding))}\n`)
    .join("")

/** "2 problems, 1 warning"; undefined where nothing needs action. */
export const needsAction = (findings: ReadonlyArray<Finding>): string | undefined => {
  const count = (level: Level) => findings.filter((finding) => finding.level === level).length
  const [problems, warnings] = [count("problem"), count("warning")]
  if (problems === 0) return undefined
  return [counted(problems, "problem"), ...(warnings === 0 ? [] : [counted(warnings, "warning")])].join(", ")
}
