/**
 * How fast a standing backlog leaves: to real brokers, with a receipt for each message, against a bare stompjs publisher of
 * the same frames; and beside other people's outboxes and queues.
 */
import { layerMemory } from "drizzle-outbox/broker"
import { layerStomp } from "drizzle-outbox/stomp"
import { startActiveMq } from "../test/support/activemq.ts"
import { type Rabbit, startRabbit } from "../test/support/rabbitmq.ts"
import { publishBare } from "./support/bare-publisher.ts"
import { compare, interleave, ratioOf } from "./support/compare.ts"
import {
  deleteQueue,
  drain,
  emptyQueue,
  fastestWindow,
  figuresOf,
  framesOf,
  noCosts,
  refill,
} from "./support/draining.ts"
import { drainRate, npmPeers, type Peers, pypiPeers } from "./support/peers.ts"
import type { Lab, Question } from "./support/question.ts"
import { brokerVersion, type Database, startDatabase } from "./support/servers.ts"

const BODY_BYTES = 200
/** A peer is stopped after so many milliseconds, and its rate is that of what it had done. */
const LIMIT = 10_000

/** Peers beside which a relay drains: to a broker that takes everything at no cost, or to RabbitMQ. */
const PEERS = [
  {
    to: "nothing",
    program: "graphile-worker",
    tuned: true,
    note: "24 jobs at once, a local queue of 500, completions in batches",
  },
  { to: "nothing", program: "graphile-worker", tuned: false, note: "as it comes" },
  { to: "nothing", program: "pg-boss", tuned: true, note: "a partition of its own, notify, batches of 500" },
  { to: "nothing", program: "pg-boss", tuned: false, note: "as it comes: one job every two seconds" },
  {
    to: "nothing",
    program: "pg-transactional-outbox",
    tuned: true,
    note: "50 at a time, 500 segments, 20 connections, polling every 10 ms",
  },
  { to: "nothing", program: "pg-transactional-outbox", tuned: false, note: "as it comes: 5 at a time" },
  {
    to: "rabbitmq topic",
    program: "pg-transactional-outbox",
    tuned: true,
    note: "50 at a time, 500 segments, 20 connections, polling every 10 ms; a receipt each",
  },
  {
    to: "rabbitmq topic",
    program: "pg-transactional-outbox",
    tuned: false,
    note: "as it comes: 5 at a time; a receipt each",
  },
  {
    to: "rabbitmq topic",
    program: "ancestor",
    tuned: false,
    note: "as it comes: not persistent, no receipts, all in one transaction",
  },
] as const

export const question: Question = {
  asks: "How fast does a standing backlog leave, with a receipt for each message?",
  minutes: 30,
  run: async (lab) => {
    const database = await startDatabase()
    let rabbit: Promise<Rabbit> | undefined
    const started = () => {
      rabbit ??= startRabbit()
      return rabbit
    }
    try {
      await withRabbit(lab, database, started)
      await withActiveMq(lab, database)
      await besidePeers(lab, database, started)
    } finally {
      await database.remove()
      await (await rabbit)?.remove()
    }
  },
}

const withRabbit = async (lab: Lab, database: Database, started: () => Promise<Rabbit>): Promise<void> => {
  for (const kind of ["queue", "topic"]) {
    const name = `rabbitmq ${kind}`
    if (!lab.wants(name)) continue
    const rabbit = await started()
    await againstBare(lab, database, {
      name,
      url: rabbit.stompUrl,
      destination: `/${kind}/bench`,
      count: lab.once ? 1000 : 50_000,
      idHeader: "amqp-message-id",
      clean: () => deleteQueue(rabbit.managementUrl, "bench"),
    })
  }
}

const withActiveMq = async (lab: Lab, database: Database): Promise<void> => {
  const names = ["queue", "topic"].map((kind) => [kind, `activemq ${kind}`] as const)
  if (!names.some(([, name]) => lab.wants(name))) return
  const activemq = await startActiveMq()
  try {
    for (const [kind, name] of names)
      await againstBare(lab, database, {
        name,
        url: activemq.stompUrl,
        destination: `/${kind}/bench`,
        // A queue of it takes some 2,000 a second from the bare publisher, a topic without subscribers all there is.
        count: lab.once ? 500 : kind === "queue" ? 10_000 : 50_000,
        idHeader: undefined,
        clean: () => emptyQueue(activemq.stompUrl, `/${kind}/bench`),
      })
  } finally {
    await activemq.remove()
  }
}

interface Target {
  readonly name: string
  readonly url: string
  readonly destination: string
  readonly count: number
  readonly idHeader: string | undefined
  /** What a repeat has left goes before the next. */
  readonly clean: () => Promise<void>
}

const againstBare = (lab: Lab, database: Database, target: Target): Promise<void> =>
  lab.measure(target.name, async () => {
    const { name, url, destination, count, clean } = target
    const backlog = { count, destination, bodyBytes: BODY_BYTES }
    const frames = await framesOf(database, backlog, target.idHeader)
    const costs = noCosts()
    const bareCosts: number[] = []
    const bare = async (window: number) => {
      const cpu = process.cpuUsage()
      const rate = await publishBare(url, frames, window)
      const { user, system } = process.cpuUsage(cpu)
      bareCosts.push((user + system) / count)
      await clean()
      return rate
    }
    const ours = async () => {
      await refill(database, backlog)
      const rate = await drain(database, layerStomp({ url }), count, costs)
      await clean()
      return rate
    }
    const window = await fastestWindow(lab, name, bare)
    return {
      ...(await compare(lab, { label: name }, ours, () => bare(window))),
      figures: {
        ...figuresOf(costs),
        "baseline, µs of CPU a message": Math.round(
          bareCosts.reduce((sum, cost) => sum + cost, 0) / bareCosts.length,
        ),
      },
      settings: {
        ...database.settings,
        broker: await brokerVersion(url),
        messages: count,
        bodyBytes: frames[0]!.body.length,
        relayWindow: 1000,
        baselineWindow: window,
      },
    }
  })

const caseOf = ({ to, program, tuned }: (typeof PEERS)[number]) => {
  const peer = program === "ancestor" ? "django-outbox-pattern" : program
  return `${to === "nothing" ? "memory broker" : to} beside ${peer}${tuned ? ", tuned" : ""}`
}

/** All of those that drain to the same take turns with the one relay. */
const besidePeers = async (lab: Lab, database: Database, started: () => Promise<Rabbit>): Promise<void> => {
  if (!PEERS.some((peer) => lab.wants(caseOf(peer)))) return
  const installed = { npm: await npmPeers(lab), pypi: await pypiPeers(lab) }
  await beside(lab, database, installed, "nothing", undefined)
  const some = typeof installed.npm !== "string" || typeof installed.pypi !== "string"
  const wanted = PEERS.some((peer) => peer.to !== "nothing" && lab.wants(caseOf(peer)))
  await beside(lab, database, installed, "rabbitmq topic", some && wanted ? await started() : undefined)
}

const beside = async (
  lab: Lab,
  database: Database,
  installed: { readonly npm: Peers | string; readonly pypi: Peers | string },
  to: (typeof PEERS)[number]["to"],
  rabbit: Rabbit | undefined,
): Promise<void> => {
  const count = lab.once ? 300 : 20_000
  const limit = lab.once ? 1000 : LIMIT
  const backlog = { count, destination: "/topic/bench", bodyBytes: BODY_BYTES }
  const broker = rabbit === undefined ? layerMemory({ sink: true }) : layerStomp({ url: rabbit.stompUrl })
  const wanted = PEERS.filter((peer) => peer.to === to && lab.wants(caseOf(peer)))
  const peersOf = ({ program }: (typeof PEERS)[number]): Peers | string =>
    program === "ancestor" ? installed.pypi : installed.npm
  const costs = noCosts()
  const contestants: Record<string, () => Promise<number>> = {
    ours: async () => {
      await refill(database, backlog)
      return drain(database, broker, count, costs)
    },
  }
  let databases = 0
  for (const peer of wanted) {
    const peers = peersOf(peer)
    if (typeof peers === "string") continue
    contestants[caseOf(peer)] = async () => {
      const name = `peer_${to.slice(0, 3)}_${++databases}`
      const url = await database.empty(name)
      const program = peer.program === "ancestor" ? "ancestor.py" : `${peer.program}.js`
      const rate = await drainRate(peers, program, {
        database: url,
        tuned: peer.tuned,
        messages: count,
        limit,
        destination: "/topic/bench",
        ...(rabbit !== undefined && { broker: rabbit.stompUrl }),
      })
      await database.sql.unsafe(`DROP DATABASE ${name} WITH (FORCE)`)
      return rate
    }
  }
  const rates =
    Object.keys(contestants).length === 1 ? {} : await interleave(lab, { label: `to ${to}` }, contestants)
  for (const peer of wanted)
    await lab.measure(caseOf(peer), async () => {
      const peers = peersOf(peer)
      const settings = { ...database.settings, to, messages: count, bodyBytes: BODY_BYTES, peer: peer.note }
      if (typeof peers === "string") return { skipped: peers, settings }
      return {
        ...ratioOf(rates["ours"]!, rates[caseOf(peer)]!),
        figures: figuresOf(costs),
        settings: { ...settings, ...peers.versions, stoppedAfterMillis: limit },
      }
    })
}
