/**
 * Whether the relay's speed depends on what else is in the outbox: a standing backlog of 10,000 messages against a larger
 * one, and against the same beside what waits, is kept, or is refused.
 *
 * The broker is RabbitMQ, with a topic that nobody is bound to: it confirms every message and keeps none, so that no
 * queue of its own grows from round to round. It runs on the same cores: what the database spends more, it has less.
 */
import { setTimeout as sleep } from "node:timers/promises"
import postgres, { type Sql } from "postgres"
import { startRabbit } from "../test/support/rabbitmq.ts"
import { compare } from "./support/compare.ts"
import type { Confirmed, CountingRelayConfig } from "./support/counting-relay.ts"
import { fill, REFUSALS } from "./support/fill.ts"
import { backendsOf, cpuSeconds, residentMegabytes } from "./support/processes.ts"
import { startProgram } from "./support/program.ts"
import { type Lab, type Question, worstCase } from "./support/question.ts"
import { brokerVersion, type Database, startDatabase } from "./support/servers.ts"
import { median } from "./support/statistics.ts"

const SECONDS = 20
/** From the first confirmation to the beginning of a round. */
const WARM_SECONDS = 3
/** Pairs of rounds; seven give a 95 % interval. */
const PAIRS = 7
/** How often the backlog is filled up again by as many as have left. */
const FEED_MILLIS = 200
const STANDING = 10_000
const DESTINATION = "/topic/backlog"
/** As in the Docker image: docs/operations.md says what it does to the memory. */
const NODE_OPTIONS = ["--max-semi-space-size=8"]

/** What is in the outbox before the ready messages, which are kept at `standing`. */
interface Variant {
  readonly name: string
  readonly standing: number
  readonly before?: ReadonlyArray<
    readonly [count: number, fill: Omit<Parameters<typeof fill>[2], "destination">]
  >
}

const BASELINE: Variant = { name: "10 k pending", standing: STANDING }
const FAILING = [1, { key: "failing", refused: true }] as const

const VARIANTS: ReadonlyArray<Variant> = [
  { name: "1 M pending", standing: 1_000_000 },
  { name: "5 M pending", standing: 5_000_000 },
  { name: "5 M published kept", standing: STANDING, before: [[5_000_000, { state: "published" }]] },
  { name: "1 M future-dated", standing: STANDING, before: [[1_000_000, { state: "delayed" }]] },
  { name: "one key failing", standing: STANDING, before: [FAILING, [100, { key: "failing" }]] },
  { name: "one key holding 100 k", standing: STANDING, before: [FAILING, [100_000, { key: "failing" }]] },
]

export const question: Question = {
  asks: "Does the relay's speed depend on what else is in the outbox?",
  minutes: 60,
  headline: worstCase,
  run: async (lab) => {
    const [database, rabbit] = await Promise.all([startDatabase(), startRabbit()])
    try {
      const settings = {
        ...database.settings,
        nodeOptions: NODE_OPTIONS.join(" "),
        broker: await brokerVersion(rabbit.stompUrl),
        destination: `${DESTINATION}, nobody bound`,
        relayWindow: 1000,
        bodyBytes: 200,
        secondsEachRound: SECONDS,
        baseline: BASELINE.name,
      }
      const baseline = await openOutbox(lab, database, BASELINE)
      let latest: Round | undefined
      for (const variant of VARIANTS)
        await lab.measure(variant.name, async () => {
          const outbox = await openOutbox(lab, database, variant)
          const [rounds, baselines]: [Round[], Round[]] = [[], []]
          try {
            await outbox.fill()
            const result = await compare(
              lab,
              { label: variant.name, repeats: PAIRS, warmups: 0 },
              async () => {
                rounds.push(await round(lab, outbox, rabbit.stompUrl))
                return rounds.at(-1)!.rate
              },
              async () => {
                // With --once one round of it does for all.
                if (!lab.once || latest === undefined) {
                  await baseline.fill()
                  latest = await round(lab, baseline, rabbit.stompUrl)
                }
                baselines.push(latest)
                return latest.rate
              },
            )
            const [refused] = await outbox.sql<[{ tries: number | null }]>`
              SELECT sum(attempts - ${REFUSALS})::int AS tries FROM outbox.messages WHERE attempts > 0`
            return {
              ...result,
              figures: {
                ...figuresOf(rounds, baselines),
                ...(refused.tries === null ? {} : { "refusals meanwhile": refused.tries }),
              },
              settings,
            }
          } finally {
            await outbox.drop()
          }
        })
      await baseline.drop()
    } finally {
      await database.remove()
      await rabbit.remove()
    }
  },
}

interface Outbox {
  /** Of its database. */
  readonly name: string
  readonly url: string
  readonly sql: Sql
  /** Empties it and fills it as its variant says. */
  readonly fill: () => Promise<void>
  /** Does what the rounds before have left to do, so that it does not fall on the next. */
  readonly tidy: () => Promise<void>
  /** Adds ready messages. */
  readonly feed: (count: number) => Promise<void>
  readonly drop: () => Promise<void>
}

let databases = 0

/** A database of its own for a variant. */
const openOutbox = async (lab: Lab, database: Database, variant: Variant): Promise<Outbox> => {
  const name = `backlog_${++databases}`
  const url = await database.another(name)
  const sql = postgres(url, { onnotice: () => {}, connection: { application_name: "bench" } })
  const size = (count: number) => (lab.once ? Math.ceil(count / 500) : count)
  const feed = (count: number) => fill(sql, count, { destination: DESTINATION })
  return {
    name,
    url,
    sql,
    feed,
    fill: async () => {
      await sql`TRUNCATE outbox.messages`
      for (const [count, what] of [...(variant.before ?? []), [variant.standing, {}] as const])
        await fill(sql, size(count), { destination: DESTINATION, ...what }, (written) => {
          if (count > 500_000) lab.say(`${variant.name}: ${written} of ${count} written`)
        })
    },
    tidy: async () => {
      await sql`VACUUM ANALYZE outbox.messages`
      await sql`CHECKPOINT`
    },
    drop: async () => {
      await sql.end()
      await database.sql.unsafe(`DROP DATABASE ${name} WITH (FORCE)`)
    },
  }
}

interface Round {
  /** Confirmed per second. */
  readonly rate: number
  /** Processor time of the relay and its connections, microseconds a message. */
  readonly cpu: number
  /** Resident memory of the relay, sampled. */
  readonly megabytes: ReadonlyArray<number>
}

const figuresOf = (rounds: ReadonlyArray<Round>, baselines: ReadonlyArray<Round>) => {
  const growths = rounds.map(({ megabytes }) => megabytes.at(-1)! - megabytes[0]!)
  return {
    "CPU of relay and connections, µs a message": Math.round(median(rounds.map(({ cpu }) => cpu))),
    "the same of the baseline": Math.round(median(baselines.map(({ cpu }) => cpu))),
    "relay's memory at the most, MB": Math.round(Math.max(...rounds.flatMap(({ megabytes }) => megabytes))),
    "its growth in a round at the most, MB": Math.round(Math.max(...growths)),
  }
}

/** Runs a relay on the outbox, fed as fast as it drains; counts from when it is warm. */
const round = async (lab: Lab, outbox: Outbox, broker: string): Promise<Round> => {
  await outbox.tidy()
  const relay = await startProgram<"confirmed", Confirmed>(
    "counting-relay",
    { database: outbox.url, broker } satisfies CountingRelayConfig,
    { flags: NODE_OPTIONS },
  )
  let confirmed = 0
  /** Feeds until so many seconds have passed. */
  const during = async (seconds: number, look: () => void = () => {}) => {
    const until = performance.now() + seconds * 1000
    while (performance.now() < until) {
      await sleep(Math.min(FEED_MILLIS, until - performance.now()))
      const before = confirmed
      confirmed = await relay.ask("confirmed")
      await outbox.feed(confirmed - before)
      look()
    }
  }
  try {
    const deadline = performance.now() + 60_000
    while (confirmed === 0) {
      if (performance.now() > deadline) throw new Error("the relay has published nothing for a minute")
      await during(0.05)
    }
    await during(lab.once ? 0.2 : WARM_SECONDS)
    const pids = [relay.pid, ...(await backendsOf(outbox.sql, outbox.name))]
    const [began, first, cpuBefore] = [performance.now(), confirmed, cpuSeconds(pids)]
    const megabytes = [residentMegabytes(relay.pid)]
    await during(lab.once ? 0.3 : SECONDS, () => megabytes.push(residentMegabytes(relay.pid)))
    const [count, cpu] = [confirmed - first, cpuSeconds(pids) - cpuBefore]
    return { rate: (count / (performance.now() - began)) * 1000, cpu: (cpu * 1e6) / count, megabytes }
  } finally {
    await relay.stop()
  }
}
