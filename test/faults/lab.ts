/** A cell's processes at work: writers, relays and a consumer on a database of their own, and somebody who watches. */
import { randomBytes } from "node:crypto"
import { Effect } from "effect"
import { migrate } from "drizzle-outbox/relay"
import postgres from "postgres"
import type { PostgresServer } from "../support/embedded-postgres.ts"
import { type PgBouncer, startPgBouncer } from "../support/pgbouncer.ts"
import { random } from "../support/random.ts"
import { monotonic, sleep, until } from "./clock.ts"
import { type ConsumerUnit, startConsumerUnit } from "./consumers.ts"
import type { Cell } from "./fault.ts"
import { type Observer, observe } from "./observer.ts"
import { createTables } from "./orders.ts"
import { type RelayUnit, startRelayUnit } from "./relays.ts"
import type { BrokerServer, Servers } from "./servers.ts"
import type { Tried } from "./writer.ts"
import { startWriters, type Writers } from "./writers.ts"

export interface Lab {
  readonly cell: Cell
  readonly dice: ReturnType<typeof random>
  readonly postgres: PostgresServer
  readonly broker: BrokerServer
  readonly bouncer: PgBouncer | undefined
  /** The harness's own way to the database. */
  readonly sql: postgres.Sql
  /** Where orders are announced. */
  readonly destination: string
  readonly relays: ReadonlyArray<RelayUnit>
  readonly consumer: ConsumerUnit
  readonly observer: Observer | undefined
  readonly writers: Writers
  /** Transactions that a fault has written itself. */
  readonly tried: Tried[]
  /** References of orders that are to be missing in the end. */
  readonly excused: Set<string>
  readonly close: () => Promise<void>
}

const KEYS = 60
/** Orders a second, on average, of all writers. */
const RATE = 500

/** Starts everything and waits until it flows. */
export const startLab = async (cell: Cell, servers: Servers, seed: number): Promise<Lab> => {
  const { fault } = cell
  const closing: Array<() => Promise<unknown> | unknown> = []
  const close = async () => {
    for (const one of closing.splice(0).reverse()) await one()
  }
  try {
    const [server, broker] = [await servers.postgres(), await servers.broker(cell.broker)]
    const dice = random(seed)
    const name = `f_${randomBytes(5).toString("hex")}`
    const admin = postgres(server.url, { max: 1, onnotice: () => {}, backoff: () => 0.1 })
    closing.push(() => admin.end({ timeout: 1 }))
    await admin.unsafe(`CREATE DATABASE ${name}`)
    closing.push(() => admin.unsafe(`DROP DATABASE IF EXISTS ${name} WITH (FORCE)`))
    const direct = server.url.replace(/\/postgres$/, `/${name}`)
    const sql = postgres(direct, { max: 3, onnotice: () => {}, backoff: () => 0.1 })
    closing.push(() => sql.end({ timeout: 1 }))
    await Effect.runPromise(migrate(sql))
    await createTables(sql)

    const bouncer = fault.bouncer ? await startPgBouncer({ url: direct, mode: "transaction" }) : undefined
    if (bouncer !== undefined) closing.push(bouncer.stop)
    const databaseUrl = bouncer?.url ?? direct
    const topic = fault.queueOnly
      ? { destination: `/queue/orders-${name}`, observed: undefined }
      : broker.topic(`orders-${name}`)
    const { destination, observed } = topic

    const consumer = await startConsumerUnit({
      databaseUrl,
      brokerUrl: broker.url,
      destination,
      handler: fault.handler ?? "effect",
      env: {},
    })
    closing.push(consumer.close)
    if ((await until(() => (consumer.subscriptions() > 0 ? true : undefined), 20)) === undefined)
      throw new Error(`the consumer did not subscribe:\n${consumer.output()}`)
    const observer =
      observed === undefined ? undefined : await observe(broker.url, observed.destination, observed.headers)
    if (observer !== undefined) closing.push(observer.close)

    const relays: RelayUnit[] = []
    for (let number = 0; number < cell.relays; number++) {
      const env = fault.relayEnv?.(number, broker) ?? {}
      const relay = await startRelayUnit({ name: `relay-${number}`, databaseUrl, brokerUrl: broker.url, env })
      closing.push(relay.close)
      relays.push(relay)
    }
    const writers = startWriters(
      [1, 2].map((number) => ({
        name: `w${number}`,
        url: databaseUrl,
        destination,
        seed: seed * 7 + number,
        keys: KEYS,
        rate: RATE / 2,
        prepare: bouncer === undefined,
      })),
    )
    closing.push(writers.kill)
    const lab: Lab = {
      cell,
      dice,
      postgres: server,
      broker,
      bouncer,
      sql,
      destination,
      relays,
      consumer,
      observer,
      writers,
      tried: [],
      excused: new Set(),
      close,
    }
    const began = monotonic()
    const flowing = await until(
      async () => ((await relaysFlow(lab, began)) && consumer.frames.lastAt() > began ? true : undefined),
      20,
    )
    if (flowing === undefined) throw new Error(`nothing flows:\n${outputOf(lab)}`)
    return lab
  } catch (cause) {
    await close()
    throw cause
  }
}

/** Everything that the processes of a lab printed. */
export const outputOf = ({ relays, consumer }: Lab): string =>
  [
    ...relays.map((relay) => `== ${relay.name}\n${relay.output()}`),
    `== consumer\n${consumer.output()}`,
  ].join("\n")

/** Whether every lane is held by a live relay, and every relay that holds some has got a confirmation since. */
export const relaysFlow = async (lab: Lab, since: number): Promise<boolean> => {
  const holders = await lab.sql<{ name: string; lanes: number }[]>`
    SELECT r.name, count(*)::int AS lanes FROM outbox.lanes l JOIN outbox.relays r ON r.id = l.relay_id
    WHERE r.expires_at > clock_timestamp() GROUP BY 1`
  const held = holders.reduce((sum, { lanes }) => sum + lanes, 0)
  if (held !== 64) return false
  const asked = monotonic()
  const names = new Set(holders.map(({ name }) => name))
  const holding = lab.relays.filter(({ name }) => names.has(name))
  const confirmed = await until(
    () => (holding.every(({ frames }) => frames.lastAt() > Math.max(since, asked - 50)) ? true : undefined),
    0.5,
    5,
  )
  return confirmed !== undefined
}

/** Waits until so many messages are in flight on these links, or after a while until one is. */
export const whenInFlight = async (
  frames: ReadonlyArray<{ readonly count: () => number }>,
  least = 20,
): Promise<number> => {
  const count = () => frames.reduce((sum, one) => sum + one.count(), 0)
  const began = monotonic()
  while (count() < (monotonic() - began < 2000 ? least : 1)) {
    if (monotonic() - began > 15_000) throw new Error("nothing is in flight")
    await sleep(1)
  }
  return count()
}
