/** `npm run bench -- NAME`: answers one of the questions in this folder. */
import { parseArgs } from "node:util"
import { runQuestion } from "./support/lab.ts"
import type { Question } from "./support/question.ts"
import { writeReport } from "./support/report.ts"
import { keep } from "./support/results.ts"

const questions: Record<string, () => Promise<{ readonly question: Question }>> = {
  drain: () => import("./drain.ts"),
  latency: () => import("./latency.ts"),
  write: () => import("./write.ts"),
  backlog: () => import("./backlog.ts"),
  horizon: () => import("./horizon.ts"),
  scale: () => import("./scale.ts"),
  payload: () => import("./payload.ts"),
  consume: () => import("./consume.ts"),
  sustained: () => import("./sustained.ts"),
  "activemq-confirm": () => import("./activemq-confirm.ts"),
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    json: { type: "boolean", default: false },
    once: { type: "boolean", default: false },
    save: { type: "boolean", default: false },
    case: { type: "string" },
    help: { type: "boolean", default: false },
  },
})

const all = async (): Promise<ReadonlyArray<readonly [string, Question]>> =>
  Promise.all(Object.entries(questions).map(async ([name, load]) => [name, (await load()).question] as const))

const usage = async (): Promise<string> => {
  const width = Math.max(...Object.keys(questions).map((name) => name.length))
  const lines = (await all()).map(
    ([name, { asks, minutes }]) => `  ${name.padEnd(width)}  ${asks} (at most ${minutes} minutes)`,
  )
  return `usage: npm run bench -- NAME [--json] [--once] [--case PATTERN] [--save]
       npm run bench -- report

${lines.join("\n")}

  --json          a JSON line per case, the headline last; progress goes to standard error
  --once          one small repeat of each case, within 20 seconds: keeps the files alive, measures nothing
  --case PATTERN  only the cases whose name this regular expression finds
  --save          keeps each case in bench/results as soon as it is measured, then writes the report
  report          charts and the tables of bench/README.md from the results kept`
}

const report = async (): Promise<void> =>
  writeReport(Object.fromEntries((await all()).map(([name, { asks }]) => [name, asks])))

const [name = "", ...more] = positionals
const load = Object.hasOwn(questions, name) ? questions[name] : undefined
if (values.help) console.log(await usage())
else if (name === "report" && more.length === 0) await report()
else if (load === undefined || more.length > 0 || (values.once && values.save)) {
  console.error(await usage())
  process.exitCode = 1
} else {
  // What was started ends with the process, however it does.
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.once(signal, () => process.exit(130))
  const { question } = await load()
  const cases = await runQuestion(name, question, {
    once: values.once,
    json: values.json,
    ...(values.case === undefined ? {} : { pattern: new RegExp(values.case) }),
    ...(values.save ? { onCase: keep } : {}),
  })
  if (values.save) await report()
  if (cases.length === 0) console.error(`no case of ${name} is called ${values.case}`)
  process.exit(cases.length === 0 ? 1 : 0)
}
