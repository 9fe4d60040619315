/** Relays as processes, a real RabbitMQ, and a STOMP client that is not ours: what the promises mean from outside. */
import { afterEach, assert, describe, inject, it } from "@effect/vitest"
import { causalBreaks, firstArrivals } from "../support/arrivals.ts"
import { createDatabase, type TestDatabase } from "../support/postgres.ts"
import { startRabbit } from "../support/rabbitmq.ts"
import { eventually, writeMessages } from "../support/relay.ts"
import { cpuSecondsOf, type RelayProcess, spawnRelay } from "../support/relay-process.ts"
import { type RawClient, type RawFrame, rawStomp } from "../support/stomp-client.ts"
import { runWriters } from "../support/writers.ts"

const cleanups: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const clean of cleanups.splice(0).reverse()) await clean()
})

const database = async (): Promise<TestDatabase> => {
  const database = await createDatabase()
  cleanups.push(database.drop)
  return database
}
const relayOf = (
  database: TestDatabase,
  brokerUrl: string,
  env: Record<string, string> = {},
): RelayProcess => {
  const relay = spawnRelay(database.url, brokerUrl, env)
  cleanups.push(() => relay.stop("SIGKILL"))
  return relay
}
const client = async (url: string): Promise<RawClient> => {
  const raw = await rawStomp(url)
  cleanups.push(async () => raw.close())
  return raw
}
const unique = (name: string) => `${name}-${Math.random().toString(36).slice(2, 8)}`

/** Subscribes and keeps what arrives, with its time. */
const listen = async (url: string, destination: string) => {
  const raw = await client(url)
  const arrived: (RawFrame & { readonly destination: string; readonly at: number })[] = []
  await raw.subscribe(destination, (frame) => arrived.push({ ...frame, destination, at: performance.now() }))
  return arrived
}

const published = async (database: TestDatabase): Promise<number> => {
  const [row] =
    await database.sql`SELECT count(*)::int AS n FROM outbox.messages WHERE published_at IS NOT NULL`
  return row?.["n"] ?? 0
}
const lanesBy = async (database: TestDatabase) =>
  database.sql<{ name: string; lanes: number }[]>`
    SELECT r.name, count(l.lane)::int AS lanes FROM outbox.relays r JOIN outbox.lanes l ON l.relay_id = r.id
    WHERE r.expires_at > clock_timestamp() GROUP BY 1 ORDER BY 1`

describe("relays as processes", () => {
  it("two drain 20,000 messages over 500 keys in causal order while writers commit late", async () => {
    const db = await database()
    const { stompUrl } = inject("rabbitmq")
    const destination = `/topic/${unique("orders")}`
    const arrived = await listen(stompUrl, destination)
    const relays = ["a", "b"].map((name) => relayOf(db, stompUrl, { OUTBOX_RELAY_NAME: name }))
    await eventually(async () =>
      assert.deepStrictEqual(
        (await lanesBy(db)).map((row) => row.lanes),
        [32, 32],
      ),
    )
    const writes = await runWriters(db.url, { messages: 20_000, keys: 500, destination })
    await eventually(async () => assert.strictEqual(await published(db), 20_000), 60)
    await eventually(() => assert.strictEqual(firstArrivals(arrived).ids.size, 20_000))
    assert.deepStrictEqual(causalBreaks(arrived, writes), [])
    const [row] = await db.sql`SELECT * FROM outbox.messages WHERE position = ${writes[0]!.position}`
    const frame = arrived.find(({ headers }) => headers["outbox-message-id"] === row?.["id"])
    assert.strictEqual(frame?.body.toString(), row?.["body"])
    assert.deepInclude(frame?.headers, {
      "outbox-event": "order",
      "outbox-event-id": row?.["event_id"],
      "outbox-operation": "emit",
      "outbox-key": row?.["key"],
      "outbox-position": row?.["position"],
      "outbox-time": row?.["created_at"].toISOString(),
      "amqp-message-id": row?.["id"],
      "dop-msg-id": row?.["id"],
      "dop-msg-type": "order",
      "content-type": "application/json",
      persistent: "true",
    })
    for (const relay of relays) assert.strictEqual(await relay.stop(), 0, relay.output())
  })

  it("survives kill -9 of one of two: nothing lost, order kept, taken over within its lease + 2 s", async () => {
    const db = await database()
    const { stompUrl } = inject("rabbitmq")
    const destination = `/topic/${unique("orders")}`
    const arrived = await listen(stompUrl, destination)
    const lease = 3
    const env = { OUTBOX_LEASE: `${lease}s`, OUTBOX_WINDOW: "500" }
    const victim = relayOf(db, stompUrl, { ...env, OUTBOX_RELAY_NAME: "victim" })
    relayOf(db, stompUrl, { ...env, OUTBOX_RELAY_NAME: "heir" })
    await eventually(async () =>
      assert.deepStrictEqual(
        (await lanesBy(db)).map((row) => row.lanes),
        [32, 32],
      ),
    )
    const writing = runWriters(db.url, { messages: 8000, keys: 200, destination })
    await eventually(() => assert.isAbove(arrived.length, 2000))
    await victim.stop("SIGKILL")
    const killed = performance.now()
    await eventually(async () => {
      const heir = (await lanesBy(db)).find((row) => row.name === "heir")
      assert.strictEqual(heir?.lanes, 64)
    }, lease + 5)
    assert.isBelow(performance.now() - killed, (lease + 2) * 1000)
    const writes = await writing
    await eventually(async () => assert.strictEqual(await published(db), 8000), 30)
    await eventually(() => assert.strictEqual(firstArrivals(arrived).ids.size, 8000))
    assert.isAtMost(firstArrivals(arrived).repeats, 500)
    assert.deepStrictEqual(causalBreaks(arrived, writes), [])
  })

  it("hands over within 2 s at SIGTERM, in the middle of a drain, and exits 0", async () => {
    const db = await database()
    const { stompUrl } = inject("rabbitmq")
    const destination = `/topic/${unique("orders")}`
    const arrived = await listen(stompUrl, destination)
    const leaver = relayOf(db, stompUrl, { OUTBOX_RELAY_NAME: "leaver" })
    relayOf(db, stompUrl, { OUTBOX_RELAY_NAME: "stayer" })
    await eventually(async () =>
      assert.deepStrictEqual(
        (await lanesBy(db)).map((row) => row.lanes),
        [32, 32],
      ),
    )
    const writing = runWriters(db.url, { messages: 6000, keys: 200, destination })
    await eventually(() => assert.isAbove(arrived.length, 1000))
    const asked = performance.now()
    const code = leaver.stop("SIGTERM")
    await eventually(async () => {
      const stayer = (await lanesBy(db)).find((row) => row.name === "stayer")
      assert.strictEqual(stayer?.lanes, 64)
    }, 5)
    assert.isBelow(performance.now() - asked, 2000)
    assert.strictEqual(await code, 0, leaver.output())
    const writes = await writing
    await eventually(async () => assert.strictEqual(await published(db), 6000), 30)
    await eventually(() => assert.strictEqual(firstArrivals(arrived).ids.size, 6000))
    assert.strictEqual(firstArrivals(arrived).repeats, 0)
    assert.deepStrictEqual(causalBreaks(arrived, writes), [])
  })

  it("a relay stopped past its lease and continued sends nothing out of order", async () => {
    const db = await database()
    const { stompUrl } = inject("rabbitmq")
    const destination = `/topic/${unique("orders")}`
    const arrived = await listen(stompUrl, destination)
    const env = { OUTBOX_LEASE: "2s", OUTBOX_WINDOW: "500" }
    const sleeper = relayOf(db, stompUrl, { ...env, OUTBOX_RELAY_NAME: "sleeper" })
    relayOf(db, stompUrl, { ...env, OUTBOX_RELAY_NAME: "waker" })
    await eventually(async () => assert.strictEqual((await lanesBy(db)).length, 2))
    const writing = runWriters(db.url, { messages: 10_000, keys: 100, destination, perTransaction: 2 })
    await eventually(() => assert.isAbove(arrived.length, 1000))
    for (let round = 0; round < 2; round++) {
      sleeper.signal("SIGSTOP")
      await new Promise((resolve) => setTimeout(resolve, 3500))
      sleeper.signal("SIGCONT")
      await new Promise((resolve) => setTimeout(resolve, 1500))
    }
    const writes = await writing
    await eventually(async () => assert.strictEqual(await published(db), 10_000), 30)
    await eventually(() => assert.strictEqual(firstArrivals(arrived).ids.size, 10_000))
    assert.deepStrictEqual(causalBreaks(arrived, writes), [])
    assert.match(sleeper.output(), /the lease ended/)
  })

  it("waits out a RabbitMQ that is stopped in the middle of a drain: no attempts, nothing dead, nothing lost", async () => {
    const db = await database()
    const rabbit = await startRabbit()
    cleanups.push(rabbit.remove)
    const queue = unique("orders")
    relayOf(db, rabbit.stompUrl)
    await writeMessages(db.sql, { count: 30_000, keys: 100, destination: `/queue/${queue}` })
    await eventually(async () => assert.isAbove(await published(db), 1000))
    await rabbit.stop()
    await new Promise((resolve) =>
      setTimeout(resolve, Number(process.env["OUTBOX_TEST_OUTAGE_SECONDS"] ?? 5) * 1000),
    )
    assert.isBelow(await published(db), 30_000)
    await rabbit.start()
    const back = performance.now()
    const before = await published(db)
    await eventually(async () => assert.isAbove(await published(db), before), 10)
    const recovery = performance.now() - back
    await eventually(async () => assert.strictEqual(await published(db), 30_000), 60)
    const [row] =
      await db.sql`SELECT max(attempts) AS attempts, count(dead_at)::int AS dead FROM outbox.messages`
    assert.deepStrictEqual({ ...row }, { attempts: 0, dead: 0 })
    assert.isBelow(recovery, 2000)
    const arrived = await listen(rabbit.stompUrl, `/queue/${queue}`)
    await eventually(() => assert.strictEqual(firstArrivals(arrived).ids.size, 30_000), 30)
    // It starts a broker of its own, twice.
  }, 120_000)

  it("a body over the broker's frame limit is dead within a second, with the broker's words; the rest flows", async () => {
    const db = await database()
    // RabbitMQ 3.10 has no limit of STOMP's own; every version has this one, 128 MiB unless configured.
    const rabbit = await startRabbit({ config: ["max_message_size = 1000000"] })
    cleanups.push(rabbit.remove)
    const { stompUrl } = rabbit
    const destination = `/topic/${unique("big")}`
    const arrived = await listen(stompUrl, destination)
    const relay = relayOf(db, stompUrl)
    await eventually(() => assert.match(relay.output(), /connected/))
    await writeMessages(db.sql, { count: 500, keys: 5, destination })
    await writeMessages(db.sql, {
      count: 1,
      key: "big",
      destination,
      body: JSON.stringify("x".repeat(1_500_000)),
    })
    const began = performance.now()
    await writeMessages(db.sql, { count: 500, keys: 5, destination })
    await eventually(async () => {
      const rows = await db.sql`SELECT last_error, attempts FROM outbox.messages WHERE dead_at IS NOT NULL`
      assert.strictEqual(rows.length, 1)
      assert.strictEqual(rows[0]?.["attempts"], 0)
    }, 5).catch((error) => {
      console.log(relay.output())
      throw error
    })
    const seconds = (performance.now() - began) / 1000
    const [dead] = await db.sql`SELECT last_error FROM outbox.messages WHERE dead_at IS NOT NULL`
    console.log(`dead after ${seconds.toFixed(2)} s: ${dead?.["last_error"]}`)
    assert.isBelow(seconds, 2)
    await eventually(() => assert.strictEqual(firstArrivals(arrived).ids.size, 1000))
  })

  it("holds a destination whose exchange is missing, while others flow, and sends it all once it is declared", async () => {
    const db = await database()
    const { stompUrl, managementUrl } = inject("rabbitmq")
    const exchange = unique("late")
    const destination = `/topic/${unique("good")}`
    const arrived = await listen(stompUrl, destination)
    const relay = relayOf(db, stompUrl)
    await eventually(() => assert.match(relay.output(), /connected/))
    await writeMessages(db.sql, { count: 200, keys: 5, destination: `/exchange/${exchange}/x` })
    await writeMessages(db.sql, { count: 5000, keys: 50, destination })
    await eventually(() => assert.strictEqual(firstArrivals(arrived).ids.size, 5000), 20)
    await eventually(async () => {
      const [row] = await db.sql`
        SELECT last_error FROM outbox.messages WHERE destination LIKE '/exchange%' ORDER BY position LIMIT 1`
      assert.match(row?.["last_error"] ?? "", /NOT_FOUND|not_found/)
    })
    const api = new URL(managementUrl)
    const declared = await fetch(`${api.origin}/api/exchanges/%2F/${exchange}`, {
      method: "PUT",
      headers: { authorization: `Basic ${btoa("guest:guest")}`, "content-type": "application/json" },
      body: JSON.stringify({ type: "topic", durable: true }),
    })
    assert.isTrue(declared.ok)
    await eventually(async () => {
      const [row] = await db.sql`
        SELECT count(published_at)::int AS n, max(attempts) AS attempts FROM outbox.messages WHERE destination LIKE '/exchange%'`
      assert.deepStrictEqual({ ...row }, { n: 200, attempts: 0 })
    }, 20)
  })

  it("does next to nothing when there is nothing to do", async () => {
    const db = await database()
    const { stompUrl } = inject("rabbitmq")
    const relay = relayOf(db, stompUrl)
    await eventually(() => assert.match(relay.output(), /lanes taken/))
    await new Promise((resolve) => setTimeout(resolve, 10_000))
    const look = async () => {
      await db.sql`SELECT pg_stat_clear_snapshot()`
      const backends =
        await db.sql`SELECT pid FROM pg_stat_activity WHERE application_name = 'drizzle-outbox' AND datname = current_database()`
      const [stats] =
        await db.sql`SELECT xact_commit::int AS commits FROM pg_stat_database WHERE datname = current_database()`
      const cpu = backends.reduce((sum, { pid }) => sum + cpuSecondsOf(pid as number), relay.cpuSeconds())
      return { cpu, commits: stats?.["commits"] as number, at: performance.now() }
    }
    const first = await look()
    await new Promise((resolve) => setTimeout(resolve, 10_000))
    const second = await look()
    const seconds = (second.at - first.at) / 1000
    // What this test asks itself counts among the commits.
    const queries = (second.commits - first.commits - 4) / seconds
    const load = (second.cpu - first.cpu) / seconds
    console.log(`idle: ${queries.toFixed(1)} queries/s, ${(load * 100).toFixed(2)} % of a core`)
    assert.isAtMost(queries, 5)
    assert.isAtMost(load, 0.02)
  })
})
