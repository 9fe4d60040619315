/** A database that answers nothing more, and handlers that hold theirs for long. */
import { setTimeout as sleep } from "node:timers/promises"
import { sql } from "drizzle-orm"
import { drizzle } from "drizzle-orm/postgres-js"
import { Effect, Layer, Scope } from "effect"
import postgres from "postgres"
import { expect, it } from "vitest"
import { layerMemory, publish } from "../../src/broker/index.ts"
import { consume, startConsumer } from "../../src/consumer/index.ts"
import { createDatabase } from "../support/postgres.ts"
import { startProxy } from "../support/proxy.ts"
import { eventually, soon } from "./harness.ts"

const memoryBroker = async () =>
  Layer.succeedContext(await Effect.runPromise(Layer.buildWithScope(layerMemory(), Scope.makeUnsafe())))
const message = (id: string, key: string) => ({
  id,
  destination: "/queue/orders",
  headers: { "outbox-message-id": id, "outbox-key": key },
  contentType: "application/json",
  body: "{}",
})

it("a stop ends although the database has fallen silent in mid-handler", async () => {
  const database = await createDatabase()
  const proxy = await startProxy(Number(new URL(database.url).port))
  const url = new URL(database.url)
  url.port = String(proxy.port)
  // What asks for types by itself is nobody's to catch when its connection is destroyed.
  const client = postgres(url.href, { max: 10, onnotice: () => {}, fetch_types: false })
  const broker = await memoryBroker()
  let begun = false
  const options = { consumer: "billing", timeout: "1 second", drainTimeout: "200 millis" } as const
  const running = startConsumer(
    consume("/queue/orders", options, async ({ tx }) => {
      begun = true
      proxy.swallow()
      await tx.execute(sql`SELECT 1`)
    }),
    { db: drizzle({ client }), broker },
  )
  await running.ready
  await Effect.runPromise(publish([message("a", "a")]).pipe(Effect.provide(broker)))
  await eventually(() => expect(begun).toBe(true))
  const stopped = await Promise.race([running.stop().then(() => true), sleep(8_000, false)])
  expect(stopped).toBe(true)
  // The driver may go on asking a database that does not answer.
  client.end({ timeout: 0 }).catch(() => {})
  proxy.close().catch(() => {})
  await database.drop()
})

it("without order a slow handler of a key keeps nobody of that key from being parked or handled", async () => {
  const database = await createDatabase()
  const broker = await memoryBroker()
  let release = () => {}
  const slow = new Promise<void>((resolve) => {
    release = resolve
  })
  const running = startConsumer(
    consume("/queue/orders", { consumer: "billing", order: "none", ...soon }, async ({ id, attempt }) => {
      // A retry holds what a first try would not.
      if (id === "slow") return attempt === 1 ? Promise.reject("once") : slow
      if (id === "failing" && attempt === 1) throw new Error("once")
    }),
    { db: drizzle({ client: database.sql }), broker },
  )
  await running.ready
  await Effect.runPromise(publish([message("slow", "k")]).pipe(Effect.provide(broker)))
  await sleep(300)
  await Effect.runPromise(
    publish([message("failing", "k"), message("other", "k")]).pipe(Effect.provide(broker)),
  )
  await eventually(async () =>
    expect(
      (await database.sql`SELECT message_id, state FROM outbox.inbox ORDER BY 1`).map(
        (row) => `${row["message_id"]} ${row["state"]}`,
      ),
    ).toEqual(["failing handled", "other handled", "slow parked"]),
  )
  release()
  await running.stop()
  await database.drop()
})
