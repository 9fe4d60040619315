/** How long a message takes from its commit to an independent subscriber, with each way to wake the relay, against a publish after the commit. */
import postgres from "postgres"
import { startRabbit } from "../test/support/rabbitmq.ts"
import { type RelayProcess, spawnRelay } from "../test/support/relay-process.ts"
import type { Awaited, SubscriberConfig } from "./support/latency-subscriber.ts"
import type { Pace, Way, WriterConfig, Written } from "./support/latency-writer.ts"
import { backendsOf, cpuSeconds } from "./support/processes.ts"
import { type Program, startProgram } from "./support/program.ts"
import type { Case, Lab, Measured, Question } from "./support/question.ts"
import { brokerVersion, type Database, startDatabase } from "./support/servers.ts"
import { median, percentile, rounded } from "./support/statistics.ts"

const WAYS: ReadonlyArray<Way> = ["direct", "polling", "notify", "local"]
const NAMES: Readonly<Record<Way, string>> = {
  direct: "publish after commit",
  polling: "polling alone",
  notify: "NOTIFY and LISTEN",
  local: "nudge in one process",
}
/** Messages a second, and the seconds of each round: what is rare needs longer for as many. */
const RATES: ReadonlyArray<readonly [rate: number, seconds: number]> = [
  [1, 30],
  [100, 10],
  [1000, 10],
  [3000, 10],
]
/** The rates that the headline is about: the last is more than this may carry beside everything else on two cores. */
const PROMISED = [1, 100, 1000]
const ROUNDS = 5
const IDLE_SECONDS = 30

const caseOf = (way: Way, rate: number) => `${NAMES[way]}, ${rate}/s`

export const question: Question = {
  asks: "How long does a message take from its commit to an independent subscriber?",
  minutes: 30,
  headline: (cases) => {
    const nudged = cases.filter((one) =>
      PROMISED.some((rate) => one.case === caseOf("notify", rate) || one.case === caseOf("local", rate)),
    )
    return { p50: worst(nudged, "p50"), p99: worst(nudged, "p99") }
  },
  run: async (lab) => {
    const [database, rabbit] = await Promise.all([startDatabase(), startRabbit()])
    const settings = {
      ...database.settings,
      broker: await brokerVersion(rabbit.stompUrl),
      arrivals: "Poisson, open loop",
      from: "the commit's return in the writer",
      bodyBytes: 10,
      writer: "withOutbox with a key and fields that SQL can make: one statement",
    }
    let contestants: ReadonlyArray<Contestant> = []
    const subscriber = await startProgram<Awaited, ReadonlyArray<number>>("latency-subscriber", {
      broker: rabbit.stompUrl,
      destinations: WAYS.map(destinationOf),
    } satisfies SubscriberConfig)
    try {
      contestants = await Promise.all(WAYS.map((way) => contestant(way, database, rabbit.stompUrl)))
      lab.say("warming up")
      for (const one of contestants) await round(one, subscriber, 20, lab.once ? 0.2 : 2)
      if (!lab.once) for (const one of contestants) await round(one, subscriber, 1000, 5)
      for (const [rate, seconds] of RATES) await atRate(lab, contestants, subscriber, rate, seconds, settings)
      await lab.measure("idle, with LISTEN", () =>
        idle(lab, database, contestants.find(({ way }) => way === "notify")!, settings),
      )
    } finally {
      for (const { relay, writer } of contestants) {
        await relay?.stop()
        await writer.stop()
      }
      await subscriber.stop()
      await database.remove()
      await rabbit.remove()
    }
  },
}

const worst = (cases: ReadonlyArray<Case>, of: "p50" | "p99"): number | undefined =>
  cases.length === 0 ? undefined : Math.max(...cases.map((one) => one[of] ?? Number.NaN))

const destinationOf = (way: Way) => `/topic/latency-${way}`

interface Contestant {
  readonly way: Way
  readonly writer: Program<Pace, Written>
  readonly relay: RelayProcess | undefined
  /** Orders written so far. */
  written: number
}

/** A writer with a database of its own and, where it has none in its process, a relay. */
const contestant = async (way: Way, database: Database, broker: string): Promise<Contestant> => {
  const url = await database.another(`latency_${way}`)
  const sql = postgres(url, { max: 1 })
  await sql`CREATE TABLE orders (id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, n integer NOT NULL, customer text NOT NULL)`
  await sql.end()
  const relay =
    way === "polling" || way === "notify"
      ? spawnRelay(url, broker, { OUTBOX_LISTEN: way === "notify" ? "on" : "off" })
      : undefined
  const config: WriterConfig = { way, database: url, broker, destination: destinationOf(way) }
  return { way, writer: await startProgram("latency-writer", config), relay, written: 0 }
}

interface Round {
  /** Milliseconds of each message from its commit, and from when it should have been written. */
  readonly fromCommit: ReadonlyArray<number>
  readonly fromIntended: ReadonlyArray<number>
  /** Messages that were to be written: fewer were where the writer could not keep up. */
  readonly wanted: number
}

const round = async (
  one: Contestant,
  subscriber: Program<Awaited, ReadonlyArray<number>>,
  perSecond: number,
  seconds: number,
): Promise<Round> => {
  const { intended, committed } = await one.writer.ask({ perSecond, seconds, first: one.written })
  const arrived = await subscriber.ask({
    destination: destinationOf(one.way),
    first: one.written,
    count: committed.length,
    seconds: 60,
  })
  one.written += committed.length
  return {
    fromCommit: arrived.map((at, index) => at - committed[index]!),
    fromIntended: arrived.map((at, index) => at - intended[index]!),
    wanted: Math.max(1, Math.round(perSecond * seconds)),
  }
}

/** All ways in turn, round after round, at one rate. */
const atRate = async (
  lab: Lab,
  all: ReadonlyArray<Contestant>,
  subscriber: Program<Awaited, ReadonlyArray<number>>,
  rate: number,
  seconds: number,
  settings: Measured["settings"],
): Promise<void> => {
  const wanted = all.filter(({ way }) => lab.wants(caseOf(way, rate)))
  if (wanted.length === 0) return
  const contestants = all.filter((one) => one.way === "direct" || wanted.includes(one))
  const rounds = new Map(contestants.map(({ way }) => [way, [] as Round[]]))
  for (let turn = 1; turn <= (lab.once ? 1 : ROUNDS); turn++) {
    const said: string[] = []
    for (const one of contestants) {
      const result = await round(one, subscriber, rate, lab.once ? Math.min(1, 30 / rate) : seconds)
      rounds.get(one.way)!.push(result)
      said.push(`${NAMES[one.way]} ${rounded(percentile(result.fromCommit, 0.5), 3)} ms`)
    }
    lab.say(`${rate}/s, ${turn}/${lab.once ? 1 : ROUNDS}, p50: ${said.join(", ")}`)
  }
  const direct = rounds.get("direct")!
  for (const { way } of wanted)
    await lab.measure(caseOf(way, rate), async () => ({
      ...summarised(rounds.get(way)!, direct),
      settings: { ...settings, secondsEachRound: seconds },
    }))
}

const summarised = (
  rounds: ReadonlyArray<Round>,
  direct: ReadonlyArray<Round>,
): Omit<Measured, "settings"> => {
  const all = rounds.flatMap(({ fromCommit }) => fromCommit)
  const intended = rounds.flatMap(({ fromIntended }) => fromIntended)
  const middle = ({ fromCommit }: Round) => percentile(fromCommit, 0.5)
  const ratios = rounds.map((one, index) => middle(one) / middle(direct[index]!))
  return {
    latency: { p50: at(all, 0.5), p99: at(all, 0.99), max: at(all, 1) },
    baseline: at(
      direct.flatMap(({ fromCommit }) => fromCommit),
      0.5,
    ),
    ratio: rounded(median(ratios), 3),
    spread: [rounded(Math.min(...ratios), 3), rounded(Math.max(...ratios), 3)],
    repeats: rounds.length,
    figures: {
      messages: all.length,
      "of them wanted": rounds.reduce((sum, { wanted }) => sum + wanted, 0),
      "p50 from the intended write, ms": at(intended, 0.5),
      "p99 from the intended write, ms": at(intended, 0.99),
    },
  }
}

const at = (values: ReadonlyArray<number>, share: number): number => rounded(percentile(values, share), 3)

/** What a relay costs while nothing happens. */
const idle = async (
  lab: Lab,
  database: Database,
  { relay, way }: Contestant,
  settings: Measured["settings"],
): Promise<Measured> => {
  const name = `latency_${way}`
  const seconds = lab.once ? 1 : IDLE_SECONDS
  // After so long it polls as rarely as it ever does, and the counters are up to date.
  await new Promise((resolve) => setTimeout(resolve, lab.once ? 100 : 10_000))
  const backends = await backendsOf(database.sql, name)
  const look = async () => {
    const [row] = await database.sql<[{ n: string }]>`
      SELECT xact_commit AS n FROM pg_stat_database WHERE datname = ${name}`
    return { relay: cpuSeconds([relay!.pid]), backends: cpuSeconds(backends), queries: Number(row.n) }
  }
  const before = await look()
  await new Promise((resolve) => setTimeout(resolve, seconds * 1000))
  const after = await look()
  const percent = (of: "relay" | "backends") => rounded(((after[of] - before[of]) / seconds) * 100, 2)
  return {
    figures: {
      "relay's CPU, % of a core": percent("relay"),
      "its backends' CPU, % of a core": percent("backends"),
      "CPU, % of a core": rounded(
        ((after.relay + after.backends - before.relay - before.backends) / seconds) * 100,
        2,
      ),
      "queries a second": rounded((after.queries - before.queries) / seconds, 2),
    },
    settings: { ...settings, seconds, connections: backends.length },
  }
}
