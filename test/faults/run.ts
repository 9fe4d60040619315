/** `npm run test:faults`: everything that can fail, fails, while everything works. */
import { parseArgs } from "node:util"
import { type CellResult, runCell } from "./cell.ts"
import { monotonic } from "./clock.ts"
import type { Cell } from "./fault.ts"
import { cells, quickCells } from "./matrix.ts"
import { keepRun, readRun, writeReport } from "./report.ts"
import { makeServers } from "./servers.ts"

const usage = `usage: npm run test:faults -- [--quick] [--only NAME] [--seed N] [--injections N] [--messages N] [--parallel N]
  --quick       every fault once, shortly: a few minutes
  --only NAME   the cells whose name starts with this, as "relay-kill RabbitMQ 3"
  --seed N      as a failed run has printed
  --injections N, --messages N   of each cell, at least; 10 and 14400, with --quick 2 and 300
  --parallel N  cells at a time, each with servers of its own; 1, with --quick 2. What was only late beside others is run again alone
  --resume      goes on with the last full run: what was not as promised, and what is missing, is run again, and the page says so
  --list        the cells
Exit code 1 when a cell is not as promised. A full run without --only writes its table.`

const { values } = parseArgs({
  options: {
    quick: { type: "boolean", default: false },
    only: { type: "string" },
    seed: { type: "string" },
    injections: { type: "string" },
    messages: { type: "string" },
    parallel: { type: "string" },
    resume: { type: "boolean", default: false },
    list: { type: "boolean", default: false },
    help: { type: "boolean", default: false },
  },
})
const fail = (words: string): never => {
  console.error(`${words}\n${usage}`)
  process.exit(1)
}
const count = (name: string, text: string | undefined, otherwise: number): number => {
  const number = text === undefined ? otherwise : Number(text)
  return Number.isSafeInteger(number) && number > 0
    ? number
    : fail(`--${name}: expected a number, not "${text}"`)
}
if (values.help) {
  console.log(usage)
  process.exit(0)
}
const { quick, only } = values
const chosen = (quick && only === undefined ? quickCells : cells).filter(
  ({ name }) => only === undefined || name === only || name.startsWith(`${only} `),
)
if (chosen.length === 0) fail(`--only: no cell is called "${only}"`)
if (values.list) {
  for (const { name, fault } of chosen) console.log(`${name}: ${fault.title}`)
  process.exit(0)
}
const full = !quick && only === undefined
if (values.resume && !full) fail("--resume goes with a full run")
const known = values.resume ? readRun() : undefined
const seed = count("seed", values.seed, known?.seed ?? 1 + Math.floor(Math.random() * 1_000_000))
const parallel = count("parallel", values.parallel, quick ? 2 : 1)
const options = {
  injections: count("injections", values.injections, quick ? 2 : 10),
  messages: count("messages", values.messages, quick ? 300 : 14_400),
  // What two cores carry with some room left: where everything waits for a processor, the bounds of recovery judge that.
  rate: quick ? 100 : 450,
}
const began = monotonic()
const results: CellResult[] = known?.cells.filter(({ faults }) => faults.length === 0) ?? []
const done = new Set(results.map(({ cell }) => cell))
const queue = chosen.filter(({ name }) => !done.has(name))
console.log(`${queue.length} cells, seed ${seed}, ${options.injections} injections each`)

/** With what an earlier run of the cell found. */
const withEarlier = (result: CellResult): CellResult => {
  const earlier = known?.cells.find(({ cell }) => cell === result.cell)
  const before = [...(earlier?.before ?? []), ...(earlier?.faults ?? [])]
  return before.length === 0 ? result : { ...result, before }
}
const line = (result: CellResult): string => {
  const { cell, committed, inFlight, recovery, repeats, repeatsBound, longestStall, seconds, faults } = result
  const minutes = ((monotonic() - began) / 60_000).toFixed(1)
  return [
    `[${results.length}/${chosen.length}, ${minutes} min] ${cell}: ${faults.length === 0 ? "as promised" : "NOT AS PROMISED"}`,
    `${committed} orders, in flight ${inFlight.join("–")}, recovery ${recovery.toFixed(1)} s, repeats ${repeats} of ${repeatsBound}, stall ${longestStall.toFixed(1)} s, ${seconds} s`,
    ...faults.map((fault) => `\n  ${fault}`),
    ...(faults.length === 0
      ? []
      : [`\n  again: npm run test:faults -- --only "${cell}" --seed ${result.seed}`]),
  ]
    .join(", ")
    .replaceAll(", \n", "\n")
}

/** What cannot even run is a failed cell, too. */
const tryCell = async (cell: Cell, servers: ReturnType<typeof makeServers>): Promise<CellResult> => {
  try {
    return await runCell(cell, servers, { ...options, seed })
  } catch (cause) {
    const words = cause instanceof Error ? (cause.stack ?? cause.message) : String(cause)
    return {
      cell: cell.name,
      fault: cell.fault.name,
      broker: cell.broker,
      relays: cell.relays,
      seed,
      seconds: 0,
      committed: 0,
      injections: 0,
      inFlight: [0, 0],
      lost: 0,
      invented: 0,
      effectsNotOne: 0,
      orderBroken: 0,
      repeats: 0,
      repeatsBound: 0,
      longestStall: 0,
      recovery: 0,
      recoveryBound: cell.fault.recovery,
      attempts: 0,
      onlyLate: false,
      rows: {},
      faults: [words],
    }
  }
}

const worker = async () => {
  const servers = makeServers()
  for (let cell = queue.shift(); cell !== undefined; cell = queue.shift()) {
    results.push(withEarlier(await tryCell(cell, servers)))
    if (full) keepRun({ seed, cells: results })
    console.log(line(results.at(-1) as CellResult))
  }
  await servers.remove()
}
await Promise.all(Array.from({ length: Math.min(queue.length, parallel) }, worker))
if (parallel > 1) {
  // The bounds of recovery are those of a cell that has the machine for itself: such a run of it decides.
  const late = new Set(results.filter(({ onlyLate }) => onlyLate).map(({ cell }) => cell))
  results.splice(0, results.length, ...results.filter(({ cell }) => !late.has(cell)))
  queue.push(...chosen.filter(({ name }) => late.has(name)))
  if (queue.length > 0) {
    console.log(`again, alone: ${[...late].join(", ")}`)
    await worker()
  }
}

const bad = results.filter(({ faults }) => faults.length > 0)
const sum = (of: (result: CellResult) => number) => results.reduce((total, result) => total + of(result), 0)
console.log(
  `${sum(({ committed }) => committed)} orders, ${sum(({ injections }) => injections)} injections, ${sum(({ lost }) => lost)} lost, ${sum(({ invented }) => invented)} invented, ${sum(({ effectsNotOne }) => effectsNotOne)} effects not once, ${sum(({ orderBroken }) => orderBroken)} out of order, ${sum(({ attempts }) => attempts)} attempts burned, ${((monotonic() - began) / 60_000).toFixed(1)} min`,
)
console.log(`${results.length - bad.length} passed, ${bad.length} failed`)
if (full && bad.length === 0) writeReport(results, seed)
process.exit(bad.length === 0 ? 0 : 1)
