/**
 * What further relays on one database bring: each is a process of its own, and they share the lanes. Then one of them is
 * killed, and what it held must leave through the others.
 */
import { setTimeout as sleep } from "node:timers/promises"
import { startRabbit } from "../test/support/rabbitmq.ts"
import { interleave, ratioOf } from "./support/compare.ts"
import type { Confirmed, CountingRelayConfig } from "./support/counting-relay.ts"
import { refill } from "./support/draining.ts"
import { fill } from "./support/fill.ts"
import { cpuSeconds, familyCpuSeconds, postmasterOf } from "./support/processes.ts"
import { type Program, startProgram } from "./support/program.ts"
import { type Case, type Lab, type Question, worstCase } from "./support/question.ts"
import { brokerVersion, type Database, startDatabase } from "./support/servers.ts"
import { median, rounded } from "./support/statistics.ts"

const RELAYS = [1, 2, 4]
const LANES = 64
/** So many times the messages that are counted leave through each relay before: the engine compiles for longer than it seems. */
const WARM_UP = 0.6
/** The relay's default lease, milliseconds. */
const LEASE = 10_000

type Relay = Program<"confirmed", Confirmed>

export const question: Question = {
  asks: "What do further relays on one database bring, and how soon is a killed one replaced?",
  minutes: 15,
  headline: (cases: ReadonlyArray<Case>) => worstCase(cases.filter(({ case: name }) => name !== TAKEOVER)),
  run: async (lab) => {
    const database = await startDatabase()
    try {
      if (casesTo("memory broker").some(lab.wants)) await scaled(lab, database, "memory broker", undefined)
      if (casesTo("rabbitmq topic").some(lab.wants)) {
        const rabbit = await startRabbit()
        try {
          await scaled(lab, database, "rabbitmq topic", rabbit.stompUrl)
        } finally {
          await rabbit.remove()
        }
      }
      await lab.measure(TAKEOVER, () => takeover(lab, database))
    } finally {
      await database.remove()
    }
  },
}

const TAKEOVER = "takeover after kill -9, of 2"
const caseOf = (broker: string, relays: number) => `${broker}, ${relays} relays`
const casesTo = (broker: string) => RELAYS.filter((count) => count > 1).map((count) => caseOf(broker, count))

/** Every number of relays in turn; the ratio is to the one. */
const scaled = async (
  lab: Lab,
  database: Database,
  name: string,
  broker: string | undefined,
): Promise<void> => {
  const count = lab.once ? 1000 : broker === undefined ? 100_000 : 80_000
  const shares = new Map(RELAYS.map((relays) => [relays, [] as string[]]))
  const costs = new Map(RELAYS.map((relays) => [relays, [] as Cost[]]))
  const contestants = Object.fromEntries(
    RELAYS.map((relays) => [
      String(relays),
      async () => {
        const { rate, share, cost } = await drainedBy(database, relays, broker, count)
        shares.get(relays)!.push(share)
        costs.get(relays)!.push(cost)
        return rate
      },
    ]),
  )
  const rates = await interleave(lab, { label: `${name}, relays` }, contestants)
  for (const relays of RELAYS.filter((one) => one > 1))
    await lab.measure(caseOf(name, relays), async () => ({
      ...ratioOf(rates[String(relays)]!, rates["1"]!),
      figures: {
        "lanes of each": shares.get(relays)!.at(-1),
        cpuMicrosecondsPerMessage: {
          ours: medianCost(costs.get(relays)!),
          baseline: medianCost(costs.get(1)!),
        },
      },
      settings: {
        ...database.settings,
        broker: broker === undefined ? "memory, a sink in each relay" : await brokerVersion(broker),
        messages: count,
        baseline: "1 relay",
      },
    }))
}

/** Microseconds of processor time a message. */
interface Cost {
  readonly relays: number
  readonly postgresql: number
}

const medianCost = (costs: ReadonlyArray<Cost>): Cost => ({
  relays: rounded(median(costs.map(({ relays }) => relays)), 3),
  postgresql: rounded(median(costs.map(({ postgresql }) => postgresql)), 3),
})

/** Relays that hold their shares of the lanes. */
const startRelays = async (
  database: Database,
  count: number,
  broker: string | undefined,
  lease = LEASE,
): Promise<ReadonlyArray<Relay>> => {
  const config: CountingRelayConfig = {
    database: database.url,
    lease,
    ...(broker !== undefined && { broker }),
  }
  const relays = await Promise.all(
    Array.from({ length: count }, () => startProgram<"confirmed", Confirmed>("counting-relay", config)),
  )
  const deadline = performance.now() + 60_000
  while ((await shareOf(database)).split("+").length !== count) {
    if (performance.now() > deadline) throw new Error("the relays have not shared the lanes within a minute")
    await sleep(100)
  }
  return relays
}

/** How many lanes each live relay holds: `32+32`; empty while some lane has no live holder. */
const shareOf = async ({ sql }: Database): Promise<string> => {
  const rows = await sql<{ lanes: number }[]>`
    SELECT count(*)::int AS lanes FROM outbox.lanes l JOIN outbox.relays r ON r.id = l.relay_id
    WHERE r.expires_at > clock_timestamp() GROUP BY l.relay_id ORDER BY 1`
  const total = rows.reduce((sum, { lanes }) => sum + lanes, 0)
  const most = Math.ceil(LANES / rows.length)
  return total === LANES && rows.every(({ lanes }) => lanes <= most)
    ? rows.map(({ lanes }) => lanes).join("+")
    : ""
}

const confirmedBy = async (relays: ReadonlyArray<Relay>): Promise<number> =>
  (await Promise.all(relays.map((relay) => relay.ask("confirmed")))).reduce((sum, one) => sum + one, 0)

const drainedBy = async (
  database: Database,
  count: number,
  broker: string | undefined,
  messages: number,
): Promise<{ readonly rate: number; readonly share: string; readonly cost: Cost }> => {
  await refill(database, { count: 0, destination: "/topic/bench", bodyBytes: 200 })
  const relays = await startRelays(database, count, broker)
  try {
    const share = await shareOf(database)
    // Each of them warms up as one does alone: the engine compiles what it runs, in every process anew.
    const warm = count * WARM_UP * messages
    await fill(database.sql, warm, { destination: "/topic/bench" })
    await until(async () => (await confirmedBy(relays)) >= warm)
    await fill(database.sql, messages, { destination: "/topic/bench" })
    const used = () => ({
      relays: cpuSeconds(relays.map(({ pid }) => pid)),
      postgresql: familyCpuSeconds(postmasterOf(database.server)),
    })
    const before = used()
    const began = performance.now()
    await until(async () => (await confirmedBy(relays)) >= warm + messages)
    const rate = (messages / (performance.now() - began)) * 1000
    const after = used()
    const cost = {
      relays: ((after.relays - before.relays) * 1e6) / messages,
      postgresql: ((after.postgresql - before.postgresql) * 1e6) / messages,
    }
    return { rate, share, cost }
  } finally {
    await Promise.all(relays.map((relay) => relay.stop()))
  }
}

const until = async (reached: () => Promise<boolean>): Promise<void> => {
  const deadline = performance.now() + 240_000
  while (!(await reached())) {
    if (performance.now() > deadline) throw new Error("what was written has not left within four minutes")
    await sleep(5)
  }
}

/** From the kill of one of two relays to the confirmation of what is written after it, for the lanes of both. */
const takeover = async (lab: Lab, database: Database) => {
  const times: number[] = []
  const rounds = lab.once ? 1 : 5
  const lease = lab.once ? 2_000 : LEASE
  for (let round = 1; round <= rounds; round++) {
    await refill(database, { count: 0, destination: "/topic/bench", bodyBytes: 200 })
    const [killed, left] = (await startRelays(database, 2, undefined, lease)) as [Relay, Relay]
    const before = await left.ask("confirmed")
    const began = performance.now()
    process.kill(killed.pid, "SIGKILL")
    await fill(database.sql, 500, { destination: "/topic/bench" })
    await until(async () => (await left.ask("confirmed")) >= before + 500)
    times.push(performance.now() - began)
    lab.say(`${TAKEOVER}, ${round}/${rounds}: ${Math.round(times.at(-1)!)} ms`)
    await left.stop()
  }
  return {
    ms: rounded(median(times)),
    baseline: lease,
    ratio: rounded(median(times) / lease, 3),
    spread: [rounded(Math.min(...times) / lease, 3), rounded(Math.max(...times) / lease, 3)] as const,
    repeats: times.length,
    settings: { ...database.settings, broker: "memory, a sink in each relay", baseline: "the lease" },
  }
}
