/** What tests of consumers share: brokers by name, a table of effects, messages over keys, consumers in this process. */
import { assert } from "@effect/vitest"
import { drizzle } from "drizzle-orm/postgres-js"
import type { Layer } from "effect"
import postgres from "postgres"
import { inject } from "vitest"
import type { Broker, BrokerError } from "../../src/broker/broker.ts"
import { layerStomp } from "../../src/broker/stomp/stomp.ts"
import type { Consumer } from "../../src/consumer/consume.ts"
import { type RunningConsumer, startConsumer } from "../../src/consumer/start.ts"
import { createDatabase, type TestDatabase } from "./postgres.ts"
import { keepLogs, type LogLine } from "./relay.ts"
import { rawStomp } from "./stomp-client.ts"

/** The numbers that the promises are made with; without it the same with smaller ones. */
export const full = process.env["OUTBOX_TEST_FULL"] === "1"

/** Brokers on which the same must hold; `topic` names one whose queue may be shared by instances. */
export const brokers = [
  { name: "RabbitMQ", url: () => inject("rabbitmq").stompUrl, topic: (name: string) => `/topic/${name}` },
  {
    name: "ActiveMQ",
    url: () => inject("activemq").stompUrl,
    topic: (name: string) => `/topic/VirtualTopic.${name}`,
  },
] as const

export const unique = (name: string): string => `${name}-${Math.random().toString(36).slice(2, 8)}`

/** Functions to run at the end of a test, last first. */
export const makeCleanups = () => {
  const cleanups: Array<() => Promise<unknown>> = []
  return {
    add: (clean: () => Promise<unknown>) => void cleanups.push(clean),
    run: async () => {
      for (const clean of cleanups.splice(0).reverse()) await clean()
    },
  }
}
export type Cleanups = ReturnType<typeof makeCleanups>

/** A migrated database with a table `effects`, in which handlers leave one row a message. */
export const effectsDatabase = async (cleanups: Cleanups): Promise<TestDatabase> => {
  const database = await createDatabase()
  cleanups.add(database.drop)
  await createEffects(database.sql)
  return database
}

export const createEffects = async (sql: postgres.Sql): Promise<void> => {
  await sql`
    CREATE TABLE effects (
      seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
      message_id text NOT NULL, key text, n int, attempt int, instance text,
      at timestamptz NOT NULL DEFAULT clock_timestamp())`
}

export interface EffectRow {
  readonly message_id: string
  readonly key: string | null
  readonly n: number
  readonly attempt: number
  readonly instance: string
}

export const effectCount = async (sql: postgres.Sql): Promise<number> => {
  const [row] = await sql`SELECT count(*)::int AS n FROM effects`
  return row?.["n"] as number
}

/** Fails unless there are as many effects as messages, each message's once, and every key's in order. */
export const assertOnceInOrder = async (sql: postgres.Sql, messages: number): Promise<void> => {
  const [counted] = await sql`
    SELECT count(*)::int AS effects, count(DISTINCT message_id)::int AS messages FROM effects`
  assert.deepStrictEqual({ ...counted }, { effects: messages, messages })
  await assertOrdered(sql)
}

/** Fails unless the effects of every key are in the order of their sending. */
export const assertOrdered = async (sql: postgres.Sql): Promise<void> => {
  const disorder = await sql`
    SELECT * FROM (
      SELECT key, n, lag(n) OVER (PARTITION BY key ORDER BY seq) AS before FROM effects WHERE key IS NOT NULL
    ) s WHERE before > n LIMIT 5`
  assert.deepStrictEqual([...disorder], [], "out of order")
}

/** How many messages of a consumer's inbox are in each state. */
export const inboxStates = async (sql: postgres.Sql): Promise<Readonly<Record<string, number>>> => {
  const rows = await sql`SELECT state, count(*)::int AS n FROM outbox.inbox GROUP BY 1`
  return Object.fromEntries(rows.map((row) => [row["state"], row["n"]]))
}

export interface SentMessage {
  readonly id: string
  readonly key: string | null
  readonly body: unknown
}

/** Messages `{ n }` from `first` on, over so many keys. */
export const numbered = (prefix: string, count: number, keys: number, first = 0): SentMessage[] =>
  Array.from({ length: count }, (_, index) => ({
    id: `${prefix}-${first + index}`,
    key: keys === 0 ? null : `k${(first + index) % keys}`,
    body: { n: first + index },
  }))

/** Sends them over one connection, in order, each persistent and with a receipt. */
export const send = async (
  url: string,
  destination: string,
  messages: ReadonlyArray<SentMessage>,
): Promise<void> => {
  const client = await rawStomp(url)
  for (let from = 0; from < messages.length; from += 1000) {
    await Promise.all(
      messages.slice(from, from + 1000).map(({ id, key, body }) =>
        client.send(destination, JSON.stringify(body), {
          "content-type": "application/json",
          "outbox-message-id": id,
          ...(key === null ? {} : { "outbox-key": key }),
        }),
      ),
    )
  }
  client.close()
}

export interface Lab {
  readonly running: RunningConsumer
  readonly lines: LogLine[]
}

/** Runs a consumer in this process; it is stopped at the end of the test. */
export const startHere = (
  consumer: Consumer,
  databaseUrl: string,
  broker: string | Layer.Layer<Broker, BrokerError>,
  cleanups: Cleanups,
): Lab => {
  const client = postgres(databaseUrl, {
    max: 12,
    fetch_types: false,
    onnotice: () => {},
    backoff: () => 0.2,
  })
  const lines: LogLine[] = []
  const layer = typeof broker === "string" ? layerStomp({ url: broker, heartbeat: "2 seconds" }) : broker
  const running = startConsumer(consumer, {
    db: drizzle({ client }),
    broker: layer,
    layer: keepLogs(lines),
  })
  cleanups.add(async () => {
    await running.stop().catch(() => {})
    await client.end({ timeout: 1 })
  })
  return { running, lines }
}

/** Resolves when the consumer has subscribed so many times. */
export const subscribed = (lines: ReadonlyArray<LogLine>, times = 1): void =>
  assert.isAtLeast(
    lines.filter(({ text }) => text === "subscribed").length,
    times,
    JSON.stringify(lines.slice(-5)),
  )

/** Messages that a queue of RabbitMQ holds, handed out or not; -1 where there is no such queue. */
export const queueDepth = async (managementUrl: string, queue: string): Promise<number> => {
  const answer = await fetch(`${new URL(managementUrl).origin}/api/queues/%2F/${encodeURIComponent(queue)}`, {
    headers: { authorization: `Basic ${btoa("guest:guest")}` },
  })
  if (!answer.ok) return -1
  return ((await answer.json()) as { messages?: number }).messages ?? 0
}
