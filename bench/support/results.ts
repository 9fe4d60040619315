/** Results that are kept: one JSON file a question, a case replaced by its next measurement. */
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import type { Case } from "./question.ts"
import { machine } from "./servers.ts"

export const FOLDER = "bench/results"

export interface Kept {
  readonly date: string
  readonly machine: string
  readonly result: Case
}

/** The cases kept of a question, in the order in which they were first measured. */
export const kept = (name: string): ReadonlyArray<Kept> => {
  const file = join(FOLDER, `${name}.json`)
  return existsSync(file) ? (JSON.parse(readFileSync(file, "utf8")) as Kept[]) : []
}

/** The questions of which something is kept. */
export const keptQuestions = (): ReadonlyArray<string> =>
  existsSync(FOLDER)
    ? readdirSync(FOLDER)
        .filter((file) => file.endsWith(".json"))
        .map((file) => file.replace(/\.json$/, ""))
        .toSorted()
    : []

/** Keeps a case, in the place of the one of that name. */
export const keep = (result: Case): void => {
  const fresh: Kept = { date: new Date().toISOString().slice(0, 10), machine: machine(), result }
  const before = kept(result.name)
  const known = before.some((one) => one.result.case === result.case)
  const after = known
    ? before.map((one) => (one.result.case === result.case ? fresh : one))
    : [...before, fresh]
  mkdirSync(FOLDER, { recursive: true })
  writeFileSync(join(FOLDER, `${result.name}.json`), `${JSON.stringify(after, undefined, 2)}\n`)
}
