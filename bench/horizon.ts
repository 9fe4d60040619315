/**
 * What a transaction that somebody leaves open costs: as long as it lasts, vacuum may remove nothing that it could see,
 * and a queue in a table fills with dead rows.
 *
 * Each hold has a database of its own, so that its horizon is held for it alone, and its own relay. They take turns:
 * some seconds of steady writing, then a burst that is timed until it has left. The relay's broker takes everything at no
 * cost, so that nothing hides the database.
 */
import { setTimeout as sleep } from "node:timers/promises"
import postgres, { type Sql } from "postgres"
import { ratioOf } from "./support/compare.ts"
import type { Confirmed, CountingRelayConfig } from "./support/counting-relay.ts"
import { fill } from "./support/fill.ts"
import { backendsOf, cpuSeconds } from "./support/processes.ts"
import { type Program, startProgram } from "./support/program.ts"
import { type Lab, type Measured, type Question, worstCase } from "./support/question.ts"
import { type Database, startDatabase } from "./support/servers.ts"
import { median, rounded } from "./support/statistics.ts"
import type { Steady, SteadyWriterConfig, Wrote } from "./support/steady-writer.ts"

const PER_SECOND = 2000
const BURST = 30_000
/** Rounds of each hold: together five minutes of steady writing, held for about four times as long. */
const ROUNDS = 15
const SECONDS = 20
/** The ratio is that of the last rounds, when most is dead. */
const LAST = 7

const FREE = "nothing"

/** What is done in the transaction that stays open. */
const HOLDS: Readonly<Record<string, ((sql: Sql) => Promise<unknown>) | undefined>> = {
  [FREE]: undefined,
  "an idle repeatable read": async (sql) => {
    await sql`BEGIN ISOLATION LEVEL REPEATABLE READ`
    await sql`SELECT count(*) FROM elsewhere`
  },
  "a writer of another table": async (sql) => {
    await sql`BEGIN`
    await sql`INSERT INTO elsewhere VALUES (1)`
  },
  "a writer of an event": async (sql) => {
    await sql`BEGIN`
    await sql`SELECT outbox.emit('held', '/topic/horizon', '{}')`
  },
}

export const question: Question = {
  asks: "What does a transaction cost that somebody leaves open?",
  minutes: 35,
  headline: worstCase,
  run: async (lab) => {
    const database = await startDatabase()
    const contestants: Contestant[] = []
    try {
      for (const held of Object.keys(HOLDS))
        if (held === FREE || KINDS.some((kind) => lab.wants(caseOf(held, kind))))
          contestants.push(await contestant(database, held))
      lab.say("warming up")
      for (const one of contestants) await round(lab, one)
      for (const one of contestants) await one.hold()
      const rounds = new Map(contestants.map((one) => [one, [] as Round[]]))
      const began = performance.now()
      for (let turn = 1; turn <= (lab.once ? 1 : ROUNDS); turn++) {
        for (const one of contestants) {
          const result = await round(lab, one)
          rounds.get(one)!.push({ ...result, at: Math.round((performance.now() - began) / 1000) })
          lab.say(
            `held: ${one.held}, ${turn}/${lab.once ? 1 : ROUNDS}: written ${rounded(result.write)}/s, drained ${rounded(result.drain)}/s, ${result.dead} dead rows, ${rounded(result.cpu, 3)} % CPU`,
          )
        }
      }
      const free = rounds.get(contestants[0]!)!
      for (const [{ held }, its] of rounds)
        for (const kind of KINDS)
          await lab.measure(caseOf(held, kind), async () => ({
            ...summarised(kind, its, free),
            settings: {
              ...database.settings,
              broker: "memory, a sink",
              perSecond: PER_SECOND,
              burst: BURST,
              rounds: ROUNDS,
              secondsEachRound: SECONDS,
              ratioOfTheLast: LAST,
              baseline: `held: ${FREE}`,
            },
          }))
    } finally {
      for (const one of contestants) await one.close()
      await database.remove()
    }
  },
}

const KINDS = ["drain", "write"] as const
type Kind = (typeof KINDS)[number]

const caseOf = (held: string, kind: Kind) => `${kind}, held: ${held}`

interface Contestant {
  readonly held: string
  readonly name: string
  readonly sql: Sql
  readonly relay: Program<"confirmed", Confirmed>
  readonly writer: Program<Steady, Wrote>
  /** Opens the transaction that stays open. */
  readonly hold: () => Promise<void>
  readonly close: () => Promise<void>
}

let databases = 0

const contestant = async (database: Database, held: string): Promise<Contestant> => {
  const name = `horizon_${++databases}`
  const url = await database.another(name)
  const sql = postgres(url, { onnotice: () => {}, connection: { application_name: "bench" } })
  const holder = postgres(url, {
    max: 1,
    idle_timeout: 0,
    onnotice: () => {},
    connection: { application_name: "bench" },
  })
  await sql`CREATE TABLE elsewhere (id integer)`
  const relay = await startProgram<"confirmed", Confirmed>("counting-relay", {
    database: url,
  } satisfies CountingRelayConfig)
  const writer = await startProgram<Steady, Wrote>("steady-writer", {
    database: url,
    statement: `SELECT outbox.emit('orders', '/topic/horizon', json_build_object('order_id', $1::int, 'note', repeat('x', 150))::text, 'customer-' || $1::int % 500)`,
    connections: 8,
  } satisfies SteadyWriterConfig)
  return {
    held,
    name,
    sql,
    relay,
    writer,
    hold: async () => {
      await HOLDS[held]?.(holder)
    },
    close: async () => {
      await writer.stop()
      await relay.stop()
      await holder.end({ timeout: 1 })
      await sql.end()
    },
  }
}

interface Round {
  /** Seconds since the transactions were opened. */
  readonly at: number
  /** Per second. */
  readonly write: number
  readonly drain: number
  readonly dead: number
  readonly megabytes: number
  /** Of the relay and its connections while the writing was steady, percent of a core. */
  readonly cpu: number
}

const round = async (lab: Lab, { name, sql, relay, writer }: Contestant): Promise<Omit<Round, "at">> => {
  const pids = [relay.pid, ...(await backendsOf(sql, name))]
  const before = await relay.ask("confirmed")
  const cpuBefore = cpuSeconds(pids)
  const wrote = await writer.ask({ perSecond: PER_SECOND, seconds: lab.once ? 0.2 : SECONDS })
  await arrived(relay, before + wrote.written)
  const cpu = ((cpuSeconds(pids) - cpuBefore) / wrote.seconds) * 100
  const burst = lab.once ? 300 : BURST
  const confirmed = await relay.ask("confirmed")
  await fill(sql, burst, { destination: "/topic/horizon" })
  const began = performance.now()
  await arrived(relay, confirmed + burst)
  const drain = (burst / (performance.now() - began)) * 1000
  const [table] = await sql<[{ dead: string; bytes: string }]>`
    SELECT n_dead_tup AS dead, pg_total_relation_size(relid) AS bytes FROM pg_stat_user_tables
    WHERE schemaname = 'outbox' AND relname = 'messages'`
  return {
    write: wrote.written / wrote.seconds,
    drain,
    dead: Number(table.dead),
    megabytes: Number(table.bytes) / 2 ** 20,
    cpu,
  }
}

const arrived = async (relay: Program<"confirmed", Confirmed>, count: number): Promise<void> => {
  const deadline = performance.now() + 120_000
  while ((await relay.ask("confirmed")) < count) {
    if (performance.now() > deadline) throw new Error("what was written has not left within two minutes")
    await sleep(2)
  }
}

const summarised = (
  kind: Kind,
  its: ReadonlyArray<Round>,
  free: ReadonlyArray<Round>,
): Omit<Measured, "settings"> => {
  const last = (rounds: ReadonlyArray<Round>) => rounds.slice(-LAST).map((one) => one[kind])
  const end = its.at(-1)!
  const over = (of: Exclude<keyof Round, "at">) => its.map((one) => [one.at, Math.round(one[of])] as const)
  const result =
    its === free
      ? { rate: rounded(median(last(its))), repeats: last(its).length }
      : ratioOf(last(its), last(free))
  if (kind === "write") return result
  return {
    ...result,
    figures: {
      "dead rows at the end": end.dead,
      "table with its indexes, MB": Math.round(end.megabytes),
      "CPU of relay and connections while writing is steady, % of a core": rounded(
        median(its.slice(-LAST).map(({ cpu }) => cpu)),
        3,
      ),
    },
    series: {
      "drained, messages a second": over("drain"),
      "dead rows": over("dead"),
      "table with its indexes, MB": over("megabytes"),
      "CPU of relay and connections while writing is steady, % of a core": over("cpu"),
    },
  }
}
