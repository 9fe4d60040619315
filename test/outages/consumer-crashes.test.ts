/** Consumers as processes that are killed in mid-work: every effect once, every key in order. */
import { afterEach, assert, describe, it } from "@effect/vitest"
import {
  assertOnceInOrder,
  brokers,
  effectCount,
  effectsDatabase,
  full,
  inboxStates,
  makeCleanups,
  numbered,
  send,
  unique,
} from "../support/consumer-lab.ts"
import { type ConsumerProcess, spawnConsumer } from "../support/consumer-process.ts"
import { eventually } from "../support/relay.ts"

const cleanups = makeCleanups()
afterEach(cleanups.run)

const { messages: MESSAGES, kills: KILLS } = full
  ? { messages: 20_000, kills: 10 }
  : { messages: 4000, kills: 4 }
const KEYS = 200

describe.each(brokers)("a consumer on $name", ({ url, topic }) => {
  it(`killed ${KILLS} times in mid-work: every effect once, every key in order, nothing dead or stuck`, async () => {
    const database = await effectsDatabase(cleanups)
    const destination = topic(unique("orders"))
    let current: ConsumerProcess | undefined
    const start = () => {
      current = spawnConsumer({
        module: "./test/support/consumer-handlers.js#effect",
        destination,
        consumer: "billing",
        databaseUrl: database.url,
        brokerUrl: url(),
        env: { OUTBOX_HEARTBEAT: "1s", TEST_WORK_MILLIS: "1" },
      })
      return current
    }
    cleanups.add(async () => {
      current?.kill("SIGKILL")
      await current?.exited
    })
    const subscribed = (consumer: ConsumerProcess) =>
      eventually(
        () =>
          assert.isTrue(
            consumer.lines().some(({ message }) => message === "subscribed"),
            consumer.stderr() + JSON.stringify(consumer.lines()),
          ),
        20,
      )
    await subscribed(start())
    const sending = send(url(), destination, numbered("m", MESSAGES, KEYS))
    const began = performance.now()
    const waits: number[] = []
    for (let kill = 1; kill <= KILLS; kill++) {
      const until = (MESSAGES * kill) / (KILLS + 2)
      await eventually(async () => assert.isAtLeast(await effectCount(database.sql), until), 30)
      current?.kill("SIGKILL")
      await current?.exited
      const killed = performance.now()
      const before = await effectCount(database.sql)
      start()
      await eventually(async () => assert.isAbove(await effectCount(database.sql), before), 20)
      waits.push(performance.now() - killed)
    }
    await sending
    await eventually(async () => assert.isAtLeast(await effectCount(database.sql), MESSAGES), 60)
    const seconds = (performance.now() - began) / 1000
    console.log(
      `${MESSAGES} messages, ${KILLS} kills: ${seconds.toFixed(1)} s; working again after ${waits.map((wait) => (wait / 1000).toFixed(1)).join(" ")} s`,
    )
    await assertOnceInOrder(database.sql, MESSAGES)
    assert.deepStrictEqual(await inboxStates(database.sql), { handled: MESSAGES })
    assert.strictEqual(await current?.terminate(), 0, current?.stderr())
  }, 300_000)
})
