/** Charts and the tables of bench/README.md, from the results that are kept. */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs"
import { chart } from "./chart.ts"
import type { Case } from "./question.ts"
import { type Kept, kept, keptQuestions } from "./results.ts"

const README = "bench/README.md"
const CHARTS = "bench/charts"
const BEGIN = "<!-- results: written by `npm run bench -- report` -->"
const END = "<!-- end of results -->"

/** Writes a chart for each question and the tables between the marks. */
export const writeReport = (asked: Readonly<Record<string, string>>): void => {
  mkdirSync(CHARTS, { recursive: true })
  const sections = keptQuestions().map((name) => {
    const results = kept(name)
    const drawn = chart(
      name,
      results.map(({ result }) => result),
    )
    if (drawn !== undefined) writeFileSync(`${CHARTS}/${name}.svg`, drawn)
    return section(name, asked[name] ?? "", results, drawn !== undefined)
  })
  const [before, rest = ""] = readFileSync(README, "utf8").split(BEGIN, 2)
  const after = rest.split(END, 2)[1] ?? ""
  writeFileSync(README, [before, BEGIN, "\n\n", sections.join("\n"), END, after].join(""))
}

const section = (name: string, asks: string, results: ReadonlyArray<Kept>, drawn: boolean): string => {
  const dates = [...new Set(results.map(({ date }) => date))].toSorted()
  const machines = [...new Set(results.map(({ machine }) => machine))]
  return `### ${name}

${asks} Measured ${dates.join(", ")} on ${machines.join("; ")}.

| case | measured | baseline | ratio | 95 % of the median ratio | spread | repeats | also |
| --- | --- | --- | --- | --- | --- | --- | --- |
${results.map(({ result }) => row(result)).join("\n")}

${drawn ? `![${name}](charts/${name}.svg)\n\n` : ""}<details><summary>Settings</summary>

${results.map(({ result }) => `- ${result.case}: \`${JSON.stringify(result.settings)}\``).join("\n")}

</details>
`
}

const row = (result: Case): string => {
  const unit = result.rate === undefined ? " ms" : "/s"
  const value = result.rate ?? result.ms
  const measured =
    result.skipped ??
    (result.p50 !== undefined
      ? `p50 ${result.p50}, p99 ${result.p99}, max ${result.max} ms`
      : value !== undefined
        ? `${value.toLocaleString("en")}${unit}`
        : "")
  const baseline = result.baseline === undefined ? "" : `${result.baseline.toLocaleString("en")}${unit}`
  const also = Object.entries(result.figures ?? {}).map(([figure, value]) => `${figure} ${shown(value)}`)
  const cells = [
    result.case,
    measured,
    baseline,
    result.ratio ?? "",
    result.interval?.join("–") ?? "",
    result.spread?.join("–") ?? "",
    result.repeats ?? "",
    also.join(", "),
  ]
  return `| ${cells.map((cell) => String(cell).replaceAll("|", "\\|")).join(" | ")} |`
}

const shown = (value: unknown): string => (typeof value === "object" ? JSON.stringify(value) : String(value))
