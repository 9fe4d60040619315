/** A cell's processes at work: writers, relays and a consumer on a database of their own, and somebody who watches. */
import { randomBytes } from "node:crypto"
import { migrate } from "drizzle-outbox/relay"
import { Effect } from "effect"
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

/** For a database that comes and goes. The driver asks for array types where nobody catches it when the connection ends meanwhile. */
const enduring = { onnotice: () => {}, backoff: () => 0.1, fetch_types: false }

/** Keys of the orders: `k0` and so on. */
export const KEYS = 60
/** What a message that the broker was made to refuse bears once it is mended: its attempts are not burned. */
export const REFUSED = '{"mended":"yes"}'
/** Starts everything and waits until it flows. `rate`: orders a second, on average, of all writers. */
export const startLab = async (cell: Cell, servers: Servers, seed: number, rate: number): Promise<Lab> => {
  const { fault } = cell
  const closing: Array<() => Promise<unknown> | unknown> = []
  const close = async () => {
    for (const one of closing.splice(0).reverse()) await one()
  }
  try {
    await fault.prepare?.()
    const [server, broker] = [await servers.postgres(), await servers.broker(cell.broker)]
    const dice = random(seed)
    const name = `f_${randomBytes(5).toString("hex")}`
    const admin = postgres(server.url, { max: 1, ...enduring })
    closing.push(() => admin.end({ timeout: 1 }))
    await admin.unsafe(`CREATE DATABASE ${name}`)
    closing.push(() => admin.unsafe(`DROP DATABASE IF EXISTS ${name} WITH (FORCE)`))
    const direct = server.url.replace(/\/postgres$/, `/${name}`)
    const sql = postgres(direct, { max: 3, ...enduring })
    closing.push(() => sql.end({ timeout: 1 }))
    await Effect.runPromise(migrate(sql))
    await createTables(sql)

    const bouncer = fault.bouncer ? await startPgBouncer({ url: direct, mode: "transaction" }) : undefined
    if (bouncer !== undefined) closing.push(bouncer.remove)
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
    if ((await until(() => (consumer.subscriptions() > 0 ? true : undefined), START)) === undefined)
      throw new Error(`the consumer did not subscribe:\n${consumer.output()}`)
    const observer =
      observed === undefined ? undefined : await observe(broker.url, observed.destination, observed.headers)
    if (observer !== undefined) closing.push(observer.close)

    const relays: RelayUnit[] = []
    for (let number = 0; number < cell.relays; number++) {
      const env = fault.relayEnv?.(number, broker) ?? {}
      const relay = await startRelayUnit({
        name: `relay-${number}`,
        databaseUrl,
        brokerUrl: broker.url,
        env,
        unrecorded: (ids, at) => unrecordedAt(sql, ids, at),
      })
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
        rate: rate / 2,
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
    const [relaying, consuming] = await Promise.all([
      recovery(lab, [], START),
      consumerRecovery(consumer, START),
    ])
    if (relaying === undefined || consuming === undefined)
      throw new Error(
        `nothing flows: the relays after ${relaying} s, the consumer after ${consuming} s, ${observer?.arrivals.length} arrived, ${writers.written()} written\n${outputOf(lab)}`,
      )
    return lab
  } catch (cause) {
    await close()
    throw cause
  }
}

/** Everything that the processes of a lab printed. */
export const outputOf = ({ relays, consumer }: Lab): string =>
  [...relays.map((relay) => `== ${relay.name}\n${relay.output()}`), `== consumer\n${consumer.output()}`].join(
    "\n",
  )

/** Seconds, longer than any bound: what takes longer is not waited for. */
const PATIENCE = 20
/** Seconds for all to start. */
const START = 60

/**
 * Seconds from now until every lane is held by a live relay other than those `gone`, and every relay that holds some has got
 * a confirmation since; undefined when that did not come.
 */
export const recovery = async (
  lab: Lab,
  gone: ReadonlyArray<string> = [],
  patience = PATIENCE,
): Promise<number | undefined> => {
  const since = monotonic()
  const names = await until(async () => {
    const holders = await lab.sql<{ name: string; lanes: number }[]>`
      SELECT r.name, count(*)::int AS lanes FROM outbox.lanes l JOIN outbox.relays r ON r.id = l.relay_id
      WHERE r.expires_at > clock_timestamp() AND r.id <> ALL(${`{${gone.join()}}`}::text::uuid[]) GROUP BY 1`
    const held = holders.reduce((sum, { lanes }) => sum + lanes, 0)
    return held === 64 ? new Set(holders.map(({ name }) => name)) : undefined
  }, patience)
  if (names === undefined) return undefined
  const held = monotonic()
  const holding = lab.relays.filter(({ name }) => names.has(name))
  // What was on its way when the fault came may pass a moment later.
  const from = gone.length > 0 ? held : since
  const at = await until(
    () => {
      const times = holding.map(({ frames }) => frames.lastAt())
      return times.every((time) => time > from) ? Math.max(...times, held) : undefined
    },
    patience,
    5,
  )
  return at === undefined ? undefined : (at - since) / 1000
}

/** Seconds from now until the consumer has acknowledged something that it had not done already. */
export const consumerRecovery = async (
  { frames }: ConsumerUnit,
  patience = PATIENCE,
): Promise<number | undefined> => {
  const since = monotonic()
  // What was on its way when the fault came may pass a moment later.
  await sleep(200)
  const at = await until(() => (frames.lastAt() > since + 200 ? frames.lastAt() : undefined), patience, 5)
  return at === undefined ? undefined : (at - since) / 1000
}

/** What is in flight from each relay. */
export const framesOf = ({ relays }: Lab) => relays.map(({ frames }) => frames)

/**
 * How many of these messages were not recorded as published at this moment, by the time of their record, which is of the
 * same clock. Asks until the database answers; in vain it gives 0, a bound that is too low.
 */
export const unrecordedAt = async (
  sql: postgres.Sql,
  ids: ReadonlyArray<string>,
  at: Date,
): Promise<number> =>
  (await until(async () => {
    const [row] = await sql<[{ n: number }]>`
      SELECT count(*)::int AS n FROM outbox.messages m JOIN json_array_elements_text(${JSON.stringify(ids)}::text::json) i ON m.id = i::uuid
      WHERE m.published_at IS NULL OR m.published_at > ${at.toISOString()}::timestamptz`
    return row.n
  }, PATIENCE)) ?? 0

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
