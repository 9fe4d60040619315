/** The table of a full run: kept as data, shown as Markdown, a summary of it in the README. */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs"
import { dirname } from "node:path"
import type { CellResult } from "./cell.ts"
import { faults } from "./matrix.ts"

export interface Report {
  readonly date: string
  readonly seed: number
  readonly cells: ReadonlyArray<CellResult>
}

const DATA = "test/faults/last-run.json"
const PAGE = "docs/faults.md"

/** A full run that is not over, or not as promised. */
export interface Run {
  readonly seed: number
  readonly cells: ReadonlyArray<CellResult>
}

const RUN = "build/faults/full-run.json"

export const keepRun = (run: Run): void => {
  mkdirSync(dirname(RUN), { recursive: true })
  writeFileSync(RUN, JSON.stringify(run))
}

export const readRun = (): Run => JSON.parse(readFileSync(RUN, "utf8")) as Run

export const readReport = (): Report => JSON.parse(readFileSync(DATA, "utf8")) as Report

/** Writes the data of a full run, the page, and the README's table. */
export const writeReport = (cells: ReadonlyArray<CellResult>, seed: number): void => {
  const report: Report = { date: new Date().toISOString().slice(0, 10), seed, cells: inOrder(cells) }
  writeFileSync(DATA, `${JSON.stringify(report, undefined, 2)}\n`)
  writeFileSync(PAGE, page(report))
  writeFileSync("README.md", withTable(readFileSync("README.md", "utf8"), summary(report)))
  console.log(`written: ${DATA}, ${PAGE}, and the table of README.md`)
}

const [BEGIN, END] = ["<!-- faults -->", "<!-- /faults -->"]

/** The README with this table between its marks. */
export const withTable = (readme: string, table: string): string => {
  const [begin, end] = [readme.indexOf(BEGIN), readme.indexOf(END)]
  if (begin < 0 || end < begin) throw new Error(`README.md has no ${BEGIN} … ${END}`)
  return `${readme.slice(0, begin + BEGIN.length)}\n\n${table}\n\n${readme.slice(end)}`
}

const inOrder = (cells: ReadonlyArray<CellResult>): ReadonlyArray<CellResult> => {
  const rank = new Map(faults.map(({ name }, index) => [name, index]))
  return cells.toSorted(
    (a, b) =>
      (rank.get(a.fault) ?? 0) - (rank.get(b.fault) ?? 0) ||
      b.broker.localeCompare(a.broker) ||
      a.relays - b.relays,
  )
}

const table = (head: ReadonlyArray<string>, rows: ReadonlyArray<ReadonlyArray<string>>): string =>
  [head, head.map(() => "---"), ...rows].map((cells) => `| ${cells.join(" | ")} |`).join("\n")

const number = (value: number): string => value.toLocaleString("en-US")

const again = (cells: ReadonlyArray<CellResult>): string => {
  const count = cells.filter(({ before = [] }) => before.length > 0).length
  return count === 0 ? "" : `, which also says why ${count} of them were run again`
}

/** A line a fault: the worst of its cells. */
export const summary = ({ cells, date }: Report): string => {
  const rows = faults.map(({ name, title }) => {
    const own = cells.filter(({ fault }) => fault === name)
    const total = (of: (cell: CellResult) => number) => number(own.reduce((sum, cell) => sum + of(cell), 0))
    return [
      title,
      [...new Set(own.map(({ broker }) => broker))].join(", "),
      total(({ injections }) => injections),
      total(({ committed }) => committed),
      `${total(({ lost }) => lost)} / ${total(({ invented }) => invented)}`,
      total(({ effectsNotOne }) => effectsNotOne),
      total(({ orderBroken }) => orderBroken),
      total(({ attempts }) => attempts),
      `${total(({ repeats }) => repeats)} of ${total(({ repeatsBound }) => repeatsBound)}`,
      `${Math.max(...own.map(({ recovery }) => recovery)).toFixed(1)} of ${own[0]?.recoveryBound} s`,
    ]
  })
  const all = (of: (cell: CellResult) => number) => number(cells.reduce((sum, cell) => sum + of(cell), 0))
  return [
    table(
      [
        "what happens, with one relay and with three",
        "broker",
        "times",
        "messages",
        "lost / invented",
        "effects ≠ 1",
        "order broken",
        "attempts burned",
        "repeats, of those in flight",
        "slowest recovery",
      ],
      rows,
    ),
    "",
    `${cells.length} runs on ${date}, ${all(({ committed }) => committed)} messages, ${all(({ injections }) => injections)} injections; each run is a row of [docs/faults.md](docs/faults.md)${again(cells)}.`,
  ].join("\n")
}

/** Every cell, with all that was measured. */
export const page = ({ cells, date, seed }: Report): string =>
  [
    "# The fault table",
    "",
    `Written by \`npm run test:faults\` on ${date}, seed ${seed}. [What the columns mean](../test/faults/README.md).`,
    "",
    table(
      [
        "fault",
        "broker",
        "relays",
        "messages",
        "injections",
        "in flight",
        "lost",
        "invented",
        "effects ≠ 1",
        "order broken",
        "attempts burned",
        "repeats",
        "at most",
        "recovery",
        "promised",
        "longest stall",
        "rows in the end",
      ],
      cells.map((cell) => [
        cell.fault,
        cell.broker,
        String(cell.relays),
        number(cell.committed),
        String(cell.injections),
        cell.inFlight.join("–"),
        String(cell.lost),
        String(cell.invented),
        String(cell.effectsNotOne),
        String(cell.orderBroken),
        String(cell.attempts),
        number(cell.repeats),
        number(cell.repeatsBound),
        `${cell.recovery.toFixed(1)} s`,
        `${cell.recoveryBound} s`,
        `${cell.longestStall.toFixed(1)} s`,
        Object.entries(cell.rows)
          .map(([state, rows]) => `${state} ${number(rows)}`)
          .join(", "),
      ]),
    ),
    "",
    ...ranAgain(cells),
  ].join("\n")

const ranAgain = (cells: ReadonlyArray<CellResult>): ReadonlyArray<string> => {
  const twice = cells.flatMap(({ cell, before = [] }) =>
    before.length === 0 ? [] : [`- ${cell}: ${before.join("; ")}`],
  )
  if (twice.length === 0) return []
  return [
    "## Run again",
    "",
    "These were not as promised at first; the table has their last run (`npm run test:faults -- --resume`).",
    "",
    ...twice,
    "",
  ]
}
