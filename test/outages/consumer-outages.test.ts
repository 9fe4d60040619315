/** A consumer while its broker, its database, or what its handler calls is away. */
import { afterEach, assert, describe, inject, it } from "@effect/vitest"
import { sql } from "drizzle-orm"
import { Effect, Schedule } from "effect"
import postgres from "postgres"
import { consume } from "../../src/consumer/consume.ts"
import { defaultBackoff } from "../../src/relay/backoff.ts"
import { migrate } from "../../src/store/migrate.ts"
import { startActiveMq } from "../support/activemq.ts"
import {
  assertOnceInOrder,
  brokers,
  createEffects,
  effectCount,
  effectsDatabase,
  full,
  inboxStates,
  makeCleanups,
  numbered,
  queueDepth,
  send,
  startHere,
  subscribed,
  unique,
} from "../support/consumer-lab.ts"
import { startPostgres } from "../support/embedded-postgres.ts"
import { startRabbit } from "../support/rabbitmq.ts"
import { eventually } from "../support/relay.ts"

const cleanups = makeCleanups()
afterEach(cleanups.run)

interface Body {
  readonly n: number
}

const sleep = (millis: number) => new Promise<void>((resolve) => setTimeout(resolve, millis))

/** One effect a message, after `work`, called before and after the write. */
const consumerOf = (
  destination: string,
  work: (when: "before" | "after") => Promise<void> | void,
  retry: Schedule.Schedule<unknown> = Schedule.spaced("300 millis"),
) =>
  consume<Body>(destination, { consumer: "billing", retry }, async ({ tx, id, key, body, attempt }) => {
    await work("before")
    await tx.execute(
      sql`INSERT INTO effects (message_id, key, n, attempt) VALUES (${id}, ${key}, ${body.n}, ${attempt})`,
    )
    await work("after")
  })

const servers = [
  {
    ...brokers[0],
    start: async () => {
      return startRabbit()
    },
  },
  {
    ...brokers[1],
    start: async () => {
      const server = await startActiveMq()
      return {
        ...server,
        wipe: async () => {
          await server.kill()
          server.wipe()
          await server.start()
        },
      }
    },
  },
]

describe.each(servers)("a consumer whose broker is $name", ({ topic, start, name }) => {
  it("is killed, comes back, and loses all its data: work goes on by itself, effects once", async () => {
    const database = await effectsDatabase(cleanups)
    const server = await start()
    cleanups.add(server.remove)
    const destination = topic(unique("orders"))
    const { lines } = startHere(
      consumerOf(destination, (when) => (when === "after" ? sleep(5) : undefined)),
      database.url,
      server.stompUrl,
      cleanups,
    )
    await eventually(() => subscribed(lines), 20)
    await send(server.stompUrl, destination, numbered("m", 2000, 50))
    await eventually(async () => assert.isAtLeast(await effectCount(database.sql), 200), 20)
    await server.kill()
    await sleep(1000)
    await server.start()
    const back = performance.now()
    await eventually(() => subscribed(lines, 2), 20)
    const [restarted] = [performance.now() - back]
    await eventually(async () => assert.strictEqual(await effectCount(database.sql), 2000), 40)
    await assertOnceInOrder(database.sql, 2000)
    const before = lines.filter(({ text }) => text === "subscribed").length
    await server.wipe()
    const wiped = performance.now()
    await eventually(() => subscribed(lines, before + 1), 30)
    console.log(
      `${name}: subscribed ${(restarted / 1000).toFixed(1)} s after the restart, ${((performance.now() - wiped) / 1000).toFixed(1)} s after the reset`,
    )
    await send(server.stompUrl, destination, numbered("m", 500, 50, 2000))
    await eventually(async () => assert.strictEqual(await effectCount(database.sql), 2500), 20)
    await assertOnceInOrder(database.sql, 2500)
    assert.deepStrictEqual(await inboxStates(database.sql), { handled: 2500 })
  }, 120_000)
})

describe("a consumer's database", () => {
  it("may crash, come back, and shoot backends in mid-handler: effects once, nothing dead", async () => {
    const server = await startPostgres()
    cleanups.add(server.remove)
    const direct = postgres(server.url, {
      max: 2,
      onnotice: () => {},
      backoff: () => 0.1,
      fetch_types: false,
    })
    cleanups.add(() => direct.end({ timeout: 1 }))
    await Effect.runPromise(migrate(direct))
    await createEffects(direct)
    const { stompUrl } = inject("rabbitmq")
    const destination = `/topic/${unique("orders")}`
    const { lines } = startHere(
      consumerOf(destination, (when) => (when === "after" ? sleep(5) : undefined)),
      server.url,
      stompUrl,
      cleanups,
    )
    await eventually(() => subscribed(lines), 20)
    await send(stompUrl, destination, numbered("m", 4000, 100))
    await eventually(async () => assert.isAtLeast(await effectCount(direct), 300), 20)
    for (let shot = 0; shot < 3; shot++) {
      await direct`
        SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid() AND state = 'idle in transaction'`
      await sleep(300)
    }
    await server.stop("immediate")
    await sleep(2000)
    await server.start()
    const back = performance.now()
    const before = await eventually(() => effectCount(direct))
    await eventually(async () => assert.isAbove(await effectCount(direct), before), 20)
    console.log(`working ${((performance.now() - back) / 1000).toFixed(1)} s after the database was back`)
    await eventually(async () => assert.isAtLeast(await effectCount(direct), 4000), 40)
    await assertOnceInOrder(direct, 4000)
    await eventually(async () => assert.deepStrictEqual(await inboxStates(direct), { handled: 4000 }), 20)
  }, 120_000)
})

describe("what a consumer's handler calls", () => {
  it(`may be down for ${full ? "5 minutes" : "some seconds"}: it pauses, nothing dies, the queue stays with the broker, the first success resumes`, async () => {
    const database = await effectsDatabase(cleanups)
    const { stompUrl, managementUrl } = inject("rabbitmq")
    const name = unique("orders")
    let down = false
    let refused = 0
    const { lines } = startHere(
      consumerOf(
        `/topic/${name}`,
        (when) => {
          if (when === "before" || !down) return
          refused++
          throw new Error("connect ECONNREFUSED")
        },
        // For as long as minutes, the pauses that a consumer has when it is told nothing.
        full ? defaultBackoff : undefined,
      ),
      database.url,
      stompUrl,
      cleanups,
    )
    await eventually(() => subscribed(lines), 20)
    await send(stompUrl, `/topic/${name}`, numbered("m", 200, 50))
    await eventually(async () => assert.strictEqual(await effectCount(database.sql), 200), 20)
    down = true
    await send(stompUrl, `/topic/${name}`, numbered("m", 3000, 50, 200))
    await eventually(() => assert.isTrue(lines.some(({ text }) => text === "paused")))
    const atPause = refused
    const seconds = full ? 300 : 8
    await sleep(seconds * 1000)
    const states = await inboxStates(database.sql)
    // RabbitMQ counts every few seconds.
    const waiting = await eventually(async () => {
      const depth = await queueDepth(managementUrl, `billing.${name}`)
      assert.isAtLeast(depth, 2800)
      return depth
    }, 20)
    const state = await database.sql`SELECT state FROM outbox.consumers`
    console.log(
      `down for ${seconds} s: ${refused - atPause} probes, ${JSON.stringify(states)}, ${waiting} with the broker`,
    )
    assert.strictEqual(state[0]?.["state"].paused?.reason, "failing")
    assert.isUndefined(states["dead"])
    assert.isAtMost(states["parked"] ?? 0, 150)
    assert.isAtMost(refused - atPause, 5 * (seconds + 20))
    down = false
    const mended = performance.now()
    await eventually(() => assert.isTrue(lines.some(({ text }) => text === "resumed")), 20)
    const resumed = (performance.now() - mended) / 1000
    await eventually(async () => assert.isAtLeast(await effectCount(database.sql), 3200), 40)
    console.log(`resumed after ${resumed.toFixed(1)} s`)
    await assertOnceInOrder(database.sql, 3200)
    assert.deepStrictEqual(await inboxStates(database.sql), { handled: 3200 })
    const [attempts] = await database.sql`SELECT max(attempt) AS most FROM effects`
    assert.isAtMost(attempts?.["most"], 3)
  }, 400_000)
})
