/** `npm run bench -- NAME [--json] [--once]`: runs one of the questions in this folder. */
import { parseArgs } from "node:util"
import { type Bench, report } from "./support/bench.ts"

const questions: Record<string, () => Promise<{ readonly bench: Bench }>> = {
  "activemq-confirm": () => import("./activemq-confirm.ts"),
  drain: () => import("./drain.ts"),
  consume: () => import("./consume.ts"),
}

const usage = `usage: npm run bench -- NAME [--json] [--once]
  NAME    ${Object.keys(questions).join(", ")}
  --json  a JSON line per case, the headline last
  --once  one small repeat of each case: keeps the files alive, measures nothing`

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { json: { type: "boolean" }, once: { type: "boolean" }, help: { type: "boolean" } },
})
const load = questions[positionals[0] ?? ""]
if (values.help === true || load === undefined) {
  console.error(usage)
  process.exit(values.help === true ? 0 : 1)
}
const { bench } = await load()
const say = (line: string) => console.error(line)
report(await bench({ once: values.once === true, say }), values.json === true)
process.exit(0)
