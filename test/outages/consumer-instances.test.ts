/** Several instances of a consumer, as processes: who works, and who goes on when one is cut off. */
import { afterEach, assert, describe, it } from "@effect/vitest"
import {
  assertOnceInOrder,
  brokers,
  type Cleanups,
  effectCount,
  effectsDatabase,
  inboxStates,
  makeCleanups,
  numbered,
  send,
  unique,
} from "../support/consumer-lab.ts"
import { type ConsumerProcess, spawnConsumer } from "../support/consumer-process.ts"
import type { TestDatabase } from "../support/postgres.ts"
import { startProxy } from "../support/proxy.ts"
import { eventually } from "../support/relay.ts"

const cleanups: Cleanups = makeCleanups()
afterEach(cleanups.run)

const HEARTBEAT = 3

const startInstance = (
  instance: string,
  database: TestDatabase,
  brokerUrl: string,
  destination: string,
  env: Record<string, string>,
): ConsumerProcess => {
  const consumer = spawnConsumer({
    module: "./test/support/consumer-handlers.js#effect",
    destination,
    consumer: "billing",
    databaseUrl: database.url,
    brokerUrl,
    env: { OUTBOX_HEARTBEAT: `${HEARTBEAT}s`, TEST_INSTANCE: instance, ...env },
  })
  cleanups.add(async () => {
    consumer.kill("SIGKILL")
    await consumer.exited
  })
  return consumer
}

const said = (consumer: ConsumerProcess, words: string) =>
  eventually(
    () =>
      assert.isTrue(
        consumer.lines().some(({ message }) => message === words),
        consumer.stderr() + JSON.stringify(consumer.lines()),
      ),
    20,
  )

const byInstance = async (database: TestDatabase) => {
  const rows = await database.sql`SELECT instance, count(*)::int AS n FROM effects GROUP BY 1`
  return Object.fromEntries(rows.map((row) => [row["instance"], row["n"]])) as Record<string, number>
}

describe.each(brokers)("instances of a consumer on $name", ({ name, url, topic }) => {
  it("share the work without order, each its part", async () => {
    const database = await effectsDatabase(cleanups)
    const destination = topic(unique("shared"))
    const env = { OUTBOX_ORDER: "none", TEST_WORK_MILLIS: "5" }
    const two = ["a", "b"].map((instance) => startInstance(instance, database, url(), destination, env))
    for (const instance of two) await said(instance, "subscribed")
    await send(url(), destination, numbered("m", 3000, 50))
    await eventually(async () => assert.isAtLeast(await effectCount(database.sql), 3000), 40)
    const parts = await byInstance(database)
    console.log(`${name}: ${JSON.stringify(parts)}`)
    for (const part of ["a", "b"]) assert.isAtLeast(parts[part] ?? 0, 900)
    const [row] = await database.sql`SELECT count(DISTINCT message_id)::int AS n FROM effects`
    assert.deepStrictEqual([row?.["n"], await effectCount(database.sql)], [3000, 3000])
    assert.deepStrictEqual(await inboxStates(database.sql), { handled: 3000 })
  })

  it("take turns with order: one works, and when it is cut off the other goes on, in order", async () => {
    const database = await effectsDatabase(cleanups)
    const destination = topic(unique("turns"))
    const direct = new URL(url().replace(/^stomp:/, "http:"))
    const proxy = await startProxy(Number(direct.port))
    cleanups.add(proxy.close)
    const env = { TEST_WORK_MILLIS: "5" }
    const first = startInstance(
      "first",
      database,
      url().replace(`:${direct.port}`, `:${proxy.port}`),
      destination,
      env,
    )
    await said(first, "subscribed")
    const second = startInstance("second", database, url(), destination, env)
    await eventually(async () => {
      const [row] = await database.sql`SELECT count(*)::int AS n FROM outbox.consumers`
      assert.strictEqual(row?.["n"], 2)
    })
    const messages = 6000
    const sending = send(url(), destination, numbered("m", messages, 100))
    await eventually(async () => assert.isAtLeast(await effectCount(database.sql), 1000), 30)
    assert.deepStrictEqual(Object.keys(await byInstance(database)), ["first"])
    proxy.swallow()
    const cut = performance.now()
    await eventually(async () => assert.isAbove((await byInstance(database))["second"] ?? 0, 0), 30)
    const seconds = (performance.now() - cut) / 1000
    await sending
    await eventually(async () => assert.isAtLeast(await effectCount(database.sql), messages), 40)
    console.log(
      `${name}: went on after ${seconds.toFixed(1)} s, ${JSON.stringify(await byInstance(database))}`,
    )
    await assertOnceInOrder(database.sql, messages)
    assert.deepStrictEqual(await inboxStates(database.sql), { handled: messages })
    assert.isAtMost(seconds, 2 * HEARTBEAT + 2, JSON.stringify(second.lines()))
  })
})
