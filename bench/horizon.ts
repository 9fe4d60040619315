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
import type { QueueName } from "./peers/queue.ts"
import { ratioOf } from "./support/compare.ts"
import { npmPeers } from "./support/peers.ts"
import { cpuSeconds } from "./support/processes.ts"
import { type Lab, type Measured, type Question, worstCase } from "./support/question.ts"
import { openOutboxQueue, openPeerQueue, type QueueInDatabase } from "./support/queue-in-database.ts"
import { startDatabase } from "./support/servers.ts"
import { median, rounded } from "./support/statistics.ts"

const PER_SECOND = 2000
const BURST = 30_000
/** Rounds of each hold: together five minutes of steady writing. */
const ROUNDS = 15
const SECONDS = 20
/** The ratio is that of the last rounds, when most is dead. */
const LAST = 7
/** A burst that has not left by then is measured by what has. */
const LONGEST_SECONDS = 20

const FREE = "nothing"
const READER = "an idle repeatable read"

/** What is done in the transaction that stays open. */
const HOLDS: Readonly<Record<string, ((sql: Sql) => Promise<unknown>) | undefined>> = {
  [FREE]: undefined,
  [READER]: async (sql) => {
    await sql`BEGIN ISOLATION LEVEL REPEATABLE READ`
    await sql`SELECT count(*) FROM elsewhere`
  },
  "a writer of another table": async (sql) => {
    await sql`BEGIN`
    await sql`INSERT INTO elsewhere VALUES (1)`
  },
  "a writer of an event": async (sql) => {
    await sql`BEGIN`
    await sql`SELECT outbox.emit('held', '/topic/bench', '{}')`
  },
}

const PEERS: ReadonlyArray<QueueName> = ["graphile-worker", "pg-boss"]

export const question: Question = {
  asks: "What does a transaction cost that somebody leaves open?",
  minutes: 90,
  headline: (cases) => worstCase(cases.filter((one) => !PEERS.some((peer) => one.case.startsWith(peer)))),
  run: async (lab) => {
    const database = await startDatabase()
    try {
      let databases = 0
      const next = () => `horizon_${++databases}`
      await compareHolds(lab, {
        prefix: "",
        holds: Object.keys(HOLDS),
        open: () => openOutboxQueue(database, next()),
        settings: { ...database.settings, broker: "memory, a sink" },
      })
      for (const peer of PEERS) {
        const holds = [FREE, READER]
        const prefix = `${peer}, `
        if (!holds.some((held) => KINDS.some((kind) => lab.wants(caseOf(prefix, held, kind))))) continue
        const peers = await npmPeers(lab)
        if (typeof peers === "string")
          await lab.measure(`${prefix}drain`, async () => ({ skipped: peers, settings: database.settings }))
        else
          await compareHolds(lab, {
            prefix,
            holds,
            open: () => openPeerQueue(database, next(), peer, peers),
            settings: { ...database.settings, ...peers.versions, jobs: "do nothing", tuned: true },
          })
      }
    } finally {
      await database.remove()
    }
  },
}

const KINDS = ["drain", "write"] as const
type Kind = (typeof KINDS)[number]

const caseOf = (prefix: string, held: string, kind: Kind) => `${prefix}${kind}, held: ${held}`

interface Holds {
  /** Of the cases' names. */
  readonly prefix: string
  readonly holds: ReadonlyArray<string>
  readonly open: () => Promise<QueueInDatabase>
  readonly settings: Measured["settings"]
}

const compareHolds = async (lab: Lab, { prefix, holds, open, settings }: Holds): Promise<void> => {
  const wanted = holds.filter((held) => KINDS.some((kind) => lab.wants(caseOf(prefix, held, kind))))
  if (wanted.length === 0) return
  const contestants: { readonly held: string; readonly queue: QueueInDatabase; readonly rounds: Round[] }[] =
    []
  const holders: Sql[] = []
  try {
    for (const held of holds)
      if (held === FREE || wanted.includes(held)) contestants.push({ held, queue: await open(), rounds: [] })
    lab.say(`${prefix}warming up`)
    for (const { held, queue } of contestants) {
      await queue.sql`CREATE TABLE elsewhere (id integer)`
      await round(lab, queue)
      const holder = postgres(queue.url, { max: 1, connection: { application_name: "bench" } })
      holders.push(holder)
      await HOLDS[held]?.(holder)
    }
    const began = performance.now()
    const turns = lab.once ? 1 : ROUNDS
    for (let turn = 1; turn <= turns; turn++) {
      for (const { held, queue, rounds } of contestants) {
        const result = await round(lab, queue)
        rounds.push({ ...result, at: Math.round((performance.now() - began) / 1000) })
        lab.say(
          `${prefix}held: ${held}, ${turn}/${turns}: written ${rounded(result.write)}/s, drained ${rounded(result.drain)}/s, ${result.dead} dead rows`,
        )
      }
      // Whoever is next has what the one before leaves to the server: it is not to be the same one each time.
      contestants.push(contestants.shift()!)
    }
    const free = contestants.find(({ held }) => held === FREE)!.rounds
    for (const name of holds)
      for (const { held, rounds } of contestants)
        if (held === name)
          for (const kind of KINDS)
            await lab.measure(caseOf(prefix, held, kind), async () => ({
              ...summarised(kind, rounds, free),
              settings: {
                ...settings,
                perSecond: PER_SECOND,
                burst: BURST,
                rounds: ROUNDS,
                secondsEachRound: SECONDS,
                ratioOfTheLast: LAST,
                baseline: `held: ${FREE}`,
              },
            }))
  } finally {
    for (const holder of holders) await holder.end({ timeout: 1 })
    for (const { queue } of contestants) await queue.close()
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
  /** Of the relay and its connections while the writing was steady, percent of a core; unknown of a peer. */
  readonly cpu: number
  /** Of the same while the burst left, microseconds a message. */
  readonly drainCpu: number
}

const round = async (lab: Lab, queue: QueueInDatabase): Promise<Omit<Round, "at">> => {
  const pids = await queue.workers()
  const cpuBefore = cpuSeconds(pids)
  const before = await queue.completed()
  const wrote = await queue.steady({ perSecond: PER_SECOND, seconds: lab.once ? 0.2 : SECONDS })
  await leave(queue, before, wrote.written)
  const cpu = pids.length === 0 ? Number.NaN : ((cpuSeconds(pids) - cpuBefore) / wrote.seconds) * 100
  const size = lab.once ? 300 : BURST
  const from = await queue.completed()
  const drainCpuBefore = cpuSeconds(pids)
  const writing = performance.now()
  await queue.burst(size)
  const began = performance.now()
  // Some may have left while others were still being written, and in --once even all.
  const early = (await queue.completed()) - from
  const left = await leave(queue, from, size)
  const drain =
    early < size ? (left - early) / (performance.now() - began) : size / (performance.now() - writing)
  const [tables] = await queue.sql<[{ dead: string; bytes: string }]>`
    SELECT sum(n_dead_tup) AS dead, sum(pg_total_relation_size(relid)) AS bytes FROM pg_stat_user_tables
    WHERE schemaname = ${queue.schema}`
  return {
    write: wrote.written / wrote.seconds,
    drain: drain * 1000,
    drainCpu: ((cpuSeconds(pids) - drainCpuBefore) * 1e6) / size,
    dead: Number(tables.dead),
    megabytes: Number(tables.bytes) / 2 ** 20,
    cpu,
  }
}

/** Waits until so many more have left, or for long enough, and gives how many have. */
const leave = async (queue: QueueInDatabase, from: number, count: number): Promise<number> => {
  const deadline = performance.now() + LONGEST_SECONDS * 1000
  while (true) {
    const left = (await queue.completed()) - from
    if (left >= count || performance.now() > deadline) return Math.min(left, count)
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
      "tables and indexes, MB": Math.round(end.megabytes),
      ...(Number.isNaN(end.cpu)
        ? {}
        : {
            "CPU of relay and connections while writing is steady, % of a core": rounded(
              median(its.slice(-LAST).map(({ cpu }) => cpu)),
              3,
            ),
            "and while the burst leaves, µs a message": Math.round(
              median(its.slice(-LAST).map(({ drainCpu }) => drainCpu)),
            ),
          }),
    },
    series: {
      "drained, messages a second": over("drain"),
      "dead rows": over("dead"),
      "tables and indexes, MB": over("megabytes"),
    },
  }
}
