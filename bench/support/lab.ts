/** Runs a question: progress with the time that has passed, each case reported when it is known. */
import type { Case, Lab, Measured, Question } from "./question.ts"
import { firstCase } from "./question.ts"

export interface RunOptions {
  readonly once: boolean
  readonly json: boolean
  /** Only the cases whose name it finds. */
  readonly pattern?: RegExp
  /** Is told of each case as soon as it is known. */
  readonly onCase?: (result: Case) => void
}

/** Measures and prints: for people, or as JSON lines whose last is the headline. */
export const runQuestion = async (
  name: string,
  question: Question,
  { once, json, pattern, onCase = () => {} }: RunOptions,
): Promise<ReadonlyArray<Case>> => {
  const began = performance.now()
  const cases: Case[] = []
  const say = (line: string) => console.error(`[${clock(performance.now() - began)}] ${name}: ${line}`)
  const wants = (which: string) => pattern === undefined || pattern.test(which)
  const lab: Lab = {
    once,
    say,
    wants,
    measure: async (which, run) => {
      if (!wants(which)) return
      say(`${which} …`)
      const result = toCase(name, which, await run())
      cases.push(result)
      console.log(json ? JSON.stringify(result) : describe(result))
      onCase(result)
    },
  }
  await question.run(lab)
  if (json) {
    const headline = cases.length === 0 ? {} : (question.headline ?? firstCase)(cases)
    console.log(JSON.stringify({ summary: true, name, ...headline }))
  }
  return cases
}

const toCase = (name: string, which: string, { latency, ...measured }: Measured): Case => ({
  name,
  case: which,
  ...latency,
  ...measured,
})

const clock = (milliseconds: number): string => {
  const seconds = Math.floor(milliseconds / 1000)
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`
}

/** One case in words. */
export const describe = (result: Case): string => {
  if (result.skipped !== undefined) return `${result.name}, ${result.case}: not measured: ${result.skipped}`
  const parts = [
    result.rate === undefined ? [] : [`${result.rate}/s`],
    result.ms === undefined ? [] : [`${result.ms} ms`],
    result.p50 === undefined ? [] : [`p50 ${result.p50} ms, p99 ${result.p99} ms, max ${result.max} ms`],
    result.baseline === undefined
      ? []
      : [`against ${result.baseline}${result.rate === undefined ? " ms" : "/s"}`],
    result.ratio === undefined ? [] : [`ratio ${result.ratio}`],
    result.interval === undefined ? [] : [`(95 %: ${result.interval.join("–")})`],
    result.spread === undefined ? [] : [`(spread ${result.spread.join("–")}, ${result.repeats} repeats)`],
  ].flat()
  const further = [result.figures, result.settings].filter((values) => values !== undefined)
  return [
    `${result.name}, ${result.case}: ${parts.join(" ")}`,
    ...further.map((values) => `  ${JSON.stringify(values)}`),
  ].join("\n")
}
