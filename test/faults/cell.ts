/** One cell of the matrix: a fault, again and again, while everything works; and what came of it. */
import { mkdirSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { check, type Verdict } from "./check.ts"
import { monotonic, sleep, until } from "./clock.ts"
import type { Cell } from "./fault.ts"
import { type Lab, outputOf, REFUSED, startLab } from "./lab.ts"
import type { Servers } from "./servers.ts"

export interface CellOptions {
  readonly seed: number
  readonly injections: number
  /** Orders written at least. */
  readonly messages: number
  /** Orders a second, on average. */
  readonly rate: number
}

export interface CellResult {
  readonly cell: string
  readonly fault: string
  readonly broker: string
  readonly relays: number
  readonly seed: number
  readonly seconds: number
  readonly committed: number
  readonly injections: number
  /** Least and most messages in flight at an injection. */
  readonly inFlight: readonly [number, number]
  readonly lost: number
  readonly invented: number
  readonly effectsNotOne: number
  readonly orderBroken: number
  readonly repeats: number
  /** What was in flight, or not recorded, when connections and relays ended: so many may repeat. */
  readonly repeatsBound: number
  /** Seconds. */
  readonly longestStall: number
  readonly recovery: number
  readonly recoveryBound: number
  readonly attempts: number
  /** Nothing but the time of a recovery is not as promised. */
  readonly onlyLate: boolean
  readonly rows: Readonly<Record<string, number>>
  /** What is not as promised; empty in a good run. */
  readonly faults: ReadonlyArray<string>
  /** What was not as promised in earlier runs of the cell. */
  readonly before?: ReadonlyArray<string>
}

/** Waits until everything has arrived, as long as within so many seconds something more has. */
const QUIET = 100

/** So many times the injections asked for, at the most, until there are enough messages. */
const MOST = 6

export const runCell = async (
  cell: Cell,
  servers: Servers,
  { seed, injections, messages, rate }: CellOptions,
): Promise<CellResult> => {
  const began = monotonic()
  const lab = await startLab(cell, servers, seed, rate)
  const faults: string[] = []
  let late = 0
  const inFlight: number[] = []
  const recoveries: number[] = []
  let unrecorded = 0
  try {
    try {
      const enough = (turn: number) =>
        turn >= injections && (lab.writers.written() >= messages || turn >= MOST * injections)
      for (let turn = 0; !enough(turn); turn++) {
        await sleep(200 + lab.dice.next() * 600)
        const injection = await cell.fault.inject(lab, turn)
        inFlight.push(injection.inFlight)
        unrecorded += injection.unrecorded ?? 0
        const seconds = await injection.recovered
        recoveries.push(seconds ?? Number.POSITIVE_INFINITY)
        if (seconds === undefined || seconds > cell.fault.recovery) {
          late++
          faults.push(
            `injection ${turn + 1}: flowing after ${seconds?.toFixed(1) ?? "more than 20"} s, promised ${cell.fault.recovery} s`,
          )
        }
      }
      await lab.writers.stop()
      await cell.fault.mend?.(lab)
    } catch (cause) {
      faults.push(cause instanceof Error ? cause.message : String(cause))
      await lab.writers.stop()
    }
    await quiet(lab)
    const end = await look(lab)
    const activity =
      faults.length + end.rows["pending"]! > 0 || end.effects.length < end.committed.length
        ? await lab.sql`SELECT pid, state, backend_start, xact_start, query_start, wait_event, left(query, 200) AS query FROM pg_stat_activity WHERE datname = current_database()`
        : []
    const history = {
      ...end,
      tried: [...lab.writers.tried, ...lab.tried],
      arrivals: lab.observer?.arrivals ?? [],
      excused: lab.excused,
    }
    const verdict = check(history)
    const cutOff = await Promise.all(lab.relays.map(({ frames }) => frames.cutOff()))
    const repeatsBound = cutOff.reduce((sum, count) => sum + count, unrecorded)
    for (const name of ["lost", "invented", "effectsNotOne", "orderBroken"] as const)
      if (verdict[name].length > 0) faults.push(`${name}: ${verdict[name].slice(0, 5).join("; ")}`)
    if (verdict.repeats > (cell.fault.noRepeats === true ? 0 : repeatsBound))
      faults.push(`${verdict.repeats} repeats, ${repeatsBound} were in flight`)
    if (end.attempts > 0) faults.push(`${end.attempts} attempts were burned`)
    if (inFlight.some((count) => count === 0)) faults.push("an injection with nothing in flight")
    if (end.rows["pending"] !== 0) faults.push(`${end.rows["pending"]} messages are still pending`)
    if (end.committed.length < messages) faults.push(`only ${end.committed.length} orders were written`)
    faults.push(...((await cell.fault.judge?.(lab)) ?? []))
    const result = {
      ...resultOf(cell, seed, verdict),
      seconds: Math.round((monotonic() - began) / 1000),
      committed: end.committed.length,
      injections: inFlight.length,
      inFlight: [Math.min(...inFlight), Math.max(...inFlight)] as const,
      repeatsBound,
      recovery: Math.max(0, ...recoveries),
      recoveryBound: cell.fault.recovery,
      attempts: end.attempts,
      onlyLate: late > 0 && late === faults.length,
      rows: end.rows,
      faults,
    }
    if (faults.length > 0)
      keep(
        result,
        { ...history, excused: [...lab.excused], inFlight, recoveries, verdict, activity },
        outputOf(lab),
      )
    return result
  } finally {
    await lab.close()
  }
}

const resultOf = ({ name, fault, broker, relays }: Cell, seed: number, verdict: Verdict) => ({
  cell: name,
  fault: fault.name,
  broker,
  relays,
  seed,
  lost: verdict.lost.length,
  invented: verdict.invented.length,
  effectsNotOne: verdict.effectsNotOne.length,
  orderBroken: verdict.orderBroken.length,
  repeats: verdict.repeats,
  longestStall: verdict.longestStall / 1000,
})

/** Waits until nothing is pending and everything that was published has arrived and taken effect, or nothing moves any more. */
const quiet = async ({ sql, observer, excused }: Lab): Promise<void> => {
  let last = ""
  let moved = monotonic()
  while (monotonic() - moved < QUIET * 1000) {
    const rows = await until(async () => {
      const [found] = await sql<[{ pending: number; orders: number }]>`
        SELECT (SELECT count(*) FROM outbox.messages WHERE published_at IS NULL AND dead_at IS NULL)::int AS pending,
               (SELECT count(*) FROM orders)::int AS orders`
      const refs = await sql<{ ref: string }[]>`
        SELECT ref FROM orders o WHERE NOT EXISTS (SELECT 1 FROM effects e WHERE e.ref = o.ref)`
      return { ...found, missing: refs.filter(({ ref }) => !excused.has(ref)).length }
    }, QUIET)
    if (rows === undefined) return
    const arrived = new Set(observer?.arrivals.map(({ ref }) => ref)).size
    const all = observer === undefined || arrived >= rows.orders
    if (rows.pending === 0 && rows.missing === 0 && all) return
    const now = `${rows.pending} ${rows.missing} ${arrived}`
    if (now !== last) moved = monotonic()
    last = now
    await sleep(300)
  }
}

/** What the database holds in the end. */
const look = async ({ sql, cell }: Lab) => {
  const committed = await sql<{ ref: string; key: string }[]>`SELECT ref, key FROM orders`
  const effects = await sql<{ id: string; ref: string }[]>`
    SELECT message_id AS id, ref FROM effects ORDER BY seq`
  const [messages] = await sql<[{ pending: number; published: number; dead: number; attempts: number }]>`
    SELECT count(*) FILTER (WHERE published_at IS NULL AND dead_at IS NULL)::int AS pending,
           count(published_at)::int AS published, count(dead_at)::int AS dead,
           coalesce(sum(attempts) FILTER (WHERE headers::text <> ${REFUSED}), 0)::int AS attempts
    FROM outbox.messages`
  const inbox = await sql<{ state: string; n: number }[]>`
    SELECT state, count(*)::int AS n FROM outbox.inbox GROUP BY 1`
  const [tries] = await sql<[{ burned: number | null }]>`SELECT sum(attempt - 1)::int AS burned FROM effects`
  const { attempts, ...rows } = messages
  return {
    committed: [...committed],
    effects: [...effects],
    attempts: attempts + (cell.fault.failsHandlers === true ? 0 : (tries.burned ?? 0)),
    rows: { ...rows, ...Object.fromEntries(inbox.map(({ state, n }) => [`inbox ${state}`, n])) } as Record<
      string,
      number
    >,
  }
}

/** A failed run leaves what it saw. */
const keep = (result: CellResult, history: unknown, output: string): void => {
  const folder = join("build", "faults", `${result.cell.replace(/\W+/g, "-")}-${result.seed}`)
  mkdirSync(folder, { recursive: true })
  writeFileSync(join(folder, "result.json"), JSON.stringify(result, undefined, 2))
  writeFileSync(join(folder, "history.json"), JSON.stringify(history))
  writeFileSync(join(folder, "output.log"), output)
  console.error(`  history and output of the processes: ${folder}; their last warnings:`)
  const warnings = output.split("\n").filter((line) => /"level":"(warn|error)"/.test(line))
  for (const line of warnings.slice(-12)) console.error(`    ${line.slice(0, 300)}`)
}
