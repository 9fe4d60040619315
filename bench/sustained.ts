/**
 * What the whole way carries on one machine: a writer, a relay, RabbitMQ and a consumer whose effect is once, all in
 * processes of their own beside PostgreSQL, at the highest rate at which nothing piles up.
 *
 * The rate is searched by steps, each from an empty backlog, and the answer is held for a minute. What is underway is
 * counted by two sequences, so that looking costs nothing: rows written less effects committed.
 */
import { setTimeout as sleep } from "node:timers/promises"
import postgres, { type Sql } from "postgres"
import { type Rabbit, startRabbit } from "../test/support/rabbitmq.ts"
import { type RelayProcess, spawnRelay } from "../test/support/relay-process.ts"
import type { EffectConsumerConfig } from "./support/effect-consumer.ts"
import type { EventWriterConfig, Load, Loaded } from "./support/event-writer.ts"
import { childrenOf, cpuSeconds, postmasterOf } from "./support/processes.ts"
import { type Program, startProgram } from "./support/program.ts"
import type { Lab, Measured, Question } from "./support/question.ts"
import { brokerVersion, type Database, startDatabase } from "./support/servers.ts"
import { median, rounded } from "./support/statistics.ts"

const KEYS = 500
const PARALLEL = 8
/** Events a second in the first step; each further one is so much faster. */
const FIRST = 500
const FASTER = 1.2
const STEP_SECONDS = 10
const HELD_SECONDS = 60

const CASES = {
  "10 events a transaction, consumed in batches of 100": { perTransaction: 10, batch: 100 },
  "1 event a transaction, consumed in batches of 100": { perTransaction: 1, batch: 100 },
  "1 event a transaction, consumed one by one": { perTransaction: 1, batch: 1 },
} as const

interface Shape {
  readonly perTransaction: number
  readonly batch: number
}

export const question: Question = {
  asks: "What do writer, relay, RabbitMQ and consumer carry together, on one machine, without a growing backlog?",
  minutes: 25,
  run: async (lab) => {
    const rabbit = await startRabbit()
    const database = await startDatabase()
    try {
      for (const [index, [name, shape]] of Object.entries(CASES).entries())
        await lab.measure(name, async () => {
          const url = await database.another(`sustained_${index}`)
          const sql = postgres(url, { onnotice: () => {}, connection: { application_name: "bench" } })
          try {
            return await search(lab, { database, url, sql, rabbit, queue: `bench-${index}` }, shape)
          } finally {
            await sql.end()
          }
        })
    } finally {
      await database.remove()
      await rabbit.remove()
    }
  },
}

/** What a case runs on: a database and a queue of its own on the servers of all. */
interface Site {
  readonly database: Database
  readonly url: string
  readonly sql: Sql
  readonly rabbit: Rabbit
  readonly queue: string
}

interface Plant {
  readonly writer: Program<Load, Loaded>
  readonly pids: Readonly<Record<string, () => ReadonlyArray<number>>>
  /** Written and without effect so far. */
  readonly underway: () => Promise<number>
}

/** Whether it kept up, and how it went. */
interface Run {
  readonly flat: boolean
  readonly rate: number
  readonly underway: ReadonlyArray<readonly [number, number]>
  /** Of one core, %. */
  readonly cpu: Readonly<Record<string, number>>
  /** Processor time of an event in each process, microseconds: what a busy machine hides in the rate. */
  readonly micros: Readonly<Record<string, number>>
}

const search = async (lab: Lab, site: Site, shape: Shape): Promise<Measured> => {
  const { url, sql, rabbit } = site
  const destination = `/queue/${site.queue}`
  await sql`CREATE TABLE orders (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, customer text NOT NULL, note text NOT NULL)`
  await sql`CREATE TABLE effects (position int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, id int NOT NULL, note text NOT NULL)`
  const relay = spawnRelay(url, rabbit.stompUrl)
  const consumer = await startProgram<never, void>("effect-consumer", {
    database: url,
    broker: rabbit.stompUrl,
    destination,
    batch: shape.batch,
    parallel: PARALLEL,
  } satisfies EffectConsumerConfig)
  const writer = await startProgram<Load, Loaded>("event-writer", {
    database: url,
    destination,
    keys: KEYS,
  } satisfies EventWriterConfig)
  try {
    const plant = await plantOf(site, relay, consumer.pid, writer)
    const at = (rate: number, seconds: number) => run(lab, plant, shape, rate, seconds)
    let held = await at(FIRST, lab.once ? 0.2 : STEP_SECONDS)
    if (!lab.once) {
      let rate = FIRST
      // One bad step may be the machine's: the second says so.
      const carries = async (next: number) =>
        (await at(next, STEP_SECONDS)).flat || (await at(next, STEP_SECONDS)).flat
      while (await carries(Math.round(rate * FASTER))) rate = Math.round(rate * FASTER)
      held = await at(rate, HELD_SECONDS)
      while (!held.flat && rate > 100) {
        rate = Math.round(rate / FASTER)
        held = await at(rate, HELD_SECONDS)
      }
    }
    await effectsAreOnce(sql)
    return {
      rate: rounded(held.rate),
      figures: {
        flat: held.flat,
        seconds: lab.once ? 0.2 : HELD_SECONDS,
        underwayMedian: rounded(median(held.underway.map(([, count]) => count))),
        cpuPercent: held.cpu,
        cpuMicrosecondsPerEvent: held.micros,
      },
      series: { "underway, messages": held.underway },
      settings: {
        ...site.database.settings,
        broker: await brokerVersion(rabbit.stompUrl),
        ...shape,
        keys: KEYS,
        parallel: PARALLEL,
        bodyBytes: 170,
        stepFactor: FASTER,
      },
    }
  } finally {
    await writer.stop()
    await consumer.stop()
    await relay.stop()
  }
}

const plantOf = async (
  { database: { server }, sql, rabbit }: Site,
  relay: RelayProcess,
  consumer: number,
  writer: Program<Load, Loaded>,
): Promise<Plant> => {
  const beam = Number(/\d+/.exec(await rabbit.ctl("eval", "os:getpid()."))?.[0])
  const postmaster = postmasterOf(server)
  return {
    writer,
    pids: {
      writer: () => [writer.pid],
      relay: () => [relay.pid],
      consumer: () => [consumer],
      rabbitmq: () => [beam],
      postgresql: () => [postmaster, ...childrenOf(postmaster)],
    },
    underway: async () => {
      const [row] = await sql<[{ underway: number }]>`
        SELECT (w.last_value - e.last_value)::int AS underway
        FROM orders_id_seq w, effects_position_seq e`
      return row.underway
    },
  }
}

const run = async (
  lab: Lab,
  plant: Plant,
  { perTransaction }: Shape,
  perSecond: number,
  seconds: number,
): Promise<Run> => {
  const names = Object.keys(plant.pids)
  const used = () => names.map((name) => cpuSeconds(plant.pids[name]!()))
  const before = used()
  const began = performance.now()
  const underway: Array<readonly [number, number]> = []
  let over = false
  const watching = (async () => {
    while (!over) {
      await sleep(500)
      underway.push([rounded((performance.now() - began) / 1000, 3), await plant.underway()])
    }
  })()
  const loaded = await plant.writer.ask({ perSecond, seconds, perTransaction })
  over = true
  await watching
  const patience = performance.now() + 120_000
  while ((await plant.underway()) > 0 && performance.now() < patience) await sleep(50)
  const after = used()
  const elapsed = (performance.now() - began) / 1000
  const rate = loaded.written / loaded.seconds
  // Half a second of messages are on their way at the most, and no more of them in the end than in the middle.
  const late = underway.slice(Math.floor(underway.length / 2)).map(([, count]) => count)
  const flat = median(late.slice(-5)) <= perSecond / 2 && loaded.written >= 0.95 * perSecond * loaded.seconds
  const share = (factor: number) =>
    Object.fromEntries(
      names.map((name, index) => [name, rounded(factor * (after[index]! - before[index]!), 3)]),
    )
  const cpu = share(100 / elapsed)
  lab.say(
    `${perSecond}/s for ${seconds} s: ${rounded(rate)}/s written, ${underway.at(-1)?.[1]} underway in the end${flat ? "" : ", piling up"}; CPU % ${JSON.stringify(cpu)}`,
  )
  return { flat, rate, underway, cpu, micros: share(1e6 / loaded.written) }
}

const effectsAreOnce = async (sql: Sql) => {
  const [row] = await sql<[{ orders: number; effects: number; distinct: number }]>`
    SELECT (SELECT count(*)::int FROM orders) AS orders, count(*)::int AS effects, count(DISTINCT id)::int AS distinct
    FROM effects`
  if (row.orders !== row.effects || row.effects !== row.distinct)
    throw new Error(`${row.effects} effects, ${row.distinct} of them distinct, of ${row.orders} rows`)
}
