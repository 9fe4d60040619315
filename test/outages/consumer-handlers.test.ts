/** Handlers that fail, hang, lie or take their process down: where each message ends, and that nobody else waits. */
import { afterEach, assert, describe, it } from "@effect/vitest"
import { sql } from "drizzle-orm"
import { Schedule } from "effect"
import { consume } from "../../src/consumer/consume.ts"
import type { AnyTransaction } from "../../src/outbox/append.ts"
import {
  assertOrdered,
  brokers,
  effectCount,
  effectsDatabase,
  inboxStates,
  makeCleanups,
  numbered,
  type SentMessage,
  send,
  startHere,
  subscribed,
  unique,
} from "../support/consumer-lab.ts"
import { type ConsumerProcess, spawnConsumer } from "../support/consumer-process.ts"
import { eventually } from "../support/relay.ts"

const cleanups = makeCleanups()
afterEach(cleanups.run)

interface Body {
  readonly n: number
  readonly act?: string
}

const effect = (
  tx: AnyTransaction,
  { id, key, n }: { id: string; key: string | null; n: number },
  note = "",
) => tx.execute(sql`INSERT INTO effects (message_id, key, n, instance) VALUES (${id}, ${key}, ${n}, ${note})`)

const sleep = (millis: number) => new Promise((resolve) => setTimeout(resolve, millis))

/** What strange handlers throw, by the name of the act. */
const strange: Readonly<Record<string, unknown>> = {
  string: "just words",
  undefined: undefined,
  null: null,
  object: { code: 7 },
}

describe.each(brokers)("handlers on $name", ({ url, topic }) => {
  it("that fail end where they should, and other keys never wait", async () => {
    const database = await effectsDatabase(cleanups)
    const destination = topic(unique("orders"))
    const calls = new Map<string, number>()
    const late: unknown[] = []
    const consumer = consume<Body>(
      destination,
      {
        consumer: "billing",
        maxAttempts: 5,
        timeout: "1 second",
        retry: Schedule.spaced("200 millis"),
        pauseAfter: 1000,
      },
      async ({ tx, id, key, body: { n, act = "" } }) => {
        const call = (calls.get(id) ?? 0) + 1
        calls.set(id, call)
        await effect(tx, { id, key, n })
        if (act === "thrice" && call <= 3) throw new Error(`not yet, ${call}`)
        if (act === "always") throw new Error("never")
        if (act in strange) throw strange[act]
        if (act === "hang") await new Promise(() => {})
        if (act === "late" && call === 1) {
          await sleep(1500)
          await effect(tx, { id, key, n }, "late").catch((error) => late.push(error))
        }
      },
    )
    const { lines } = startHere(consumer, database.url, url(), cleanups)
    await eventually(() => subscribed(lines), 20)
    const acts = ["thrice", "always", "hang", "late", ...Object.keys(strange)]
    const bad = acts.flatMap((act): SentMessage[] => [
      { id: act, key: act, body: { n: 0, act } },
      { id: `${act}-next`, key: act, body: { n: 1 } },
    ])
    const good = numbered("good", 300, 50)
    const began = performance.now()
    await send(url(), destination, [...bad, ...good])
    await eventually(async () => {
      const [row] = await database.sql`SELECT count(*)::int AS n FROM effects WHERE message_id LIKE 'good-%'`
      assert.strictEqual(row?.["n"], good.length)
    }, 20)
    // The one that hangs takes five tries of a second each.
    const goodSeconds = (performance.now() - began) / 1000
    assert.isTrue((await inboxStates(database.sql))["parked"]! > 0, "the others were not waited for")
    await eventually(async () => {
      const states = await inboxStates(database.sql)
      assert.deepStrictEqual(states, { handled: good.length + acts.length + 2, dead: 6 })
    }, 40)
    const rows =
      await database.sql`SELECT message_id, attempts, last_error FROM outbox.inbox WHERE state = 'dead'`
    const dead = Object.fromEntries(
      rows.map((row) => [row["message_id"], [row["attempts"], row["last_error"]]]),
    )
    assert.deepStrictEqual(dead, {
      always: [5, "never"],
      hang: [5, "the handler took longer than 1s"],
      string: [5, "just words"],
      undefined: [5, "undefined"],
      null: [5, "null"],
      object: [5, '{"code":7}'],
    })
    const counted = Object.fromEntries([...calls].filter(([id]) => acts.includes(id)))
    assert.deepInclude(counted, { thrice: 4, always: 5, hang: 5, late: 2 })
    const names = late.map((error) => (error as Error).constructor.name)
    assert.deepStrictEqual(names, ["TransactionEnded"])
    const lateRows = await database.sql`SELECT * FROM effects WHERE instance = 'late'`
    assert.strictEqual(lateRows.length, 0)
    assert.strictEqual(await effectCount(database.sql), good.length + acts.length + 2)
    await assertOrdered(database.sql)
    console.log(`other keys were done after ${goodSeconds.toFixed(1)} s`)
  })

  it("that run longer than the heart-beat keep their connection, and are called once", async () => {
    const database = await effectsDatabase(cleanups)
    const destination = topic(unique("long"))
    let calls = 0
    const consumer = consume<Body>(destination, { consumer: "billing" }, async ({ tx, id, key, body }) => {
      calls++
      await sleep(9000)
      await effect(tx, { id, key, n: body.n })
    })
    const { lines } = startHere(consumer, database.url, url(), cleanups)
    await eventually(() => subscribed(lines), 20)
    await send(url(), destination, numbered("m", 1, 1))
    await eventually(async () => assert.strictEqual(await effectCount(database.sql), 1), 30)
    assert.strictEqual(calls, 1)
    assert.deepStrictEqual(
      lines.filter(({ text }) => text !== "subscribed"),
      [],
    )
    assert.deepStrictEqual(await inboxStates(database.sql), { handled: 1 })
  })

  it("that take the process down are dead after three starts, and their neighbours are handled once", async () => {
    const database = await effectsDatabase(cleanups)
    const destination = topic(unique("exits"))
    let exits = 0
    let current: ConsumerProcess | undefined
    let stopping = false
    const start = () => {
      current = spawnConsumer({
        module: "./test/support/consumer-handlers.js#exits",
        destination,
        consumer: "billing",
        databaseUrl: database.url,
        brokerUrl: url(),
        env: { OUTBOX_HEARTBEAT: "1s" },
      })
      void current.exited.then((code) => {
        if (stopping) return
        if (code === 7) exits++
        start()
      })
    }
    cleanups.add(async () => {
      stopping = true
      current?.kill("SIGKILL")
      await current?.exited
    })
    start()
    const lines = () => current?.lines() ?? []
    await eventually(() => assert.isTrue(lines().some(({ message }) => message === "subscribed")), 20)
    const neighbours = numbered("m", 200, 20)
    const poison = { id: "poison", key: "k3", body: { n: 50, exit: true } }
    await send(url(), destination, [...neighbours.slice(0, 50), poison, ...neighbours.slice(50)])
    await eventually(async () => {
      assert.deepStrictEqual(await inboxStates(database.sql), { handled: 200, dead: 1 })
    }, 55)
    const [dead] =
      await database.sql`SELECT message_id, last_error, started FROM outbox.inbox WHERE state = 'dead'`
    assert.strictEqual(dead?.["message_id"], "poison")
    assert.match(dead?.["last_error"], /begun 3 times and never ended/)
    const [row] =
      await database.sql`SELECT count(*)::int AS n, count(DISTINCT message_id)::int AS m FROM effects`
    assert.deepStrictEqual({ ...row }, { n: 200, m: 200 })
    await assertOrdered(database.sql)
    // The first start may come before a process knows that it has a suspect.
    assert.isAtMost(exits, 4)
    assert.isAtLeast(exits, 3)
  }, 90_000)
})
