/** The low level: outcomes that the handler returns, in a transaction of its own. */
import { randomUUID } from "node:crypto"
import { sql } from "drizzle-orm"
import { drizzle } from "drizzle-orm/postgres-js"
import { Effect, Layer, Scope } from "effect"
import { afterEach, beforeEach, describe, expect, it } from "vitest"
import type { Broker } from "../../src/broker/broker.ts"
import { layerMemory, type MemoryBroker, publish } from "../../src/broker/index.ts"
import {
  consumeDelivery,
  type DeliveryHandler,
  type RunningConsumer,
  startConsumer,
} from "../../src/consumer/index.ts"
import { createDatabase, type TestDatabase } from "../support/postgres.ts"
import { eventually, soon } from "./harness.ts"

let database: TestDatabase
let db: ReturnType<typeof drizzle>
let broker: Layer.Layer<Broker | MemoryBroker>
let running: RunningConsumer | undefined
beforeEach(async () => {
  database = await createDatabase()
  db = drizzle({ client: database.sql })
  await database.sql`CREATE TABLE effects (id text)`
  broker = Layer.succeedContext(
    await Effect.runPromise(Layer.buildWithScope(layerMemory(), Scope.makeUnsafe())),
  )
})
afterEach(async () => {
  await running?.stop()
  await database.drop()
})

const start = (handler: DeliveryHandler<never>, options = {}) => {
  running = startConsumer(
    consumeDelivery("/queue/orders", { consumer: "billing", ...soon, ...options }, handler),
    { db, broker },
  )
}
const send = (...ids: ReadonlyArray<string>) =>
  Effect.runPromise(
    publish(
      ids.map((id) => ({
        id: randomUUID(),
        destination: "/queue/orders",
        headers: { "dop-msg-id": id, "outbox-key": "k" },
        contentType: "text/plain",
        body: `body of ${id}`,
      })),
    ).pipe(Effect.provide(broker)),
  )
const states = async () =>
  (
    await database.sql`SELECT message_id, state, attempts, last_error FROM outbox.inbox ORDER BY position`
  ).map(
    (row) =>
      `${row["message_id"]} ${row["state"]} ${row["attempts"]}${row["last_error"] === null ? "" : `: ${row["last_error"]}`}`,
  )
const effects = async () => (await database.sql`SELECT id FROM effects ORDER BY id`).map((row) => row["id"])

describe("a delivery", () => {
  it("saved in the handler's own transaction has its effect once", async () => {
    start(async (delivery) => {
      await db.transaction(async (tx) => {
        if (await delivery.save(tx)) await tx.execute(sql`INSERT INTO effects VALUES (${delivery.text()})`)
      })
      return delivery.ack()
    })
    await send("a", "a", "b", "a")
    await eventually(async () => expect(await states()).toEqual(["a handled 0", "b handled 0"]))
    expect(await effects()).toEqual(["body of a", "body of b"])
  })

  it("acknowledged without being saved leaves no record; refused it is dead", async () => {
    start(async (delivery) =>
      delivery.messageId === "bad" ? delivery.nack("unknown customer") : delivery.ack(),
    )
    await send("good", "bad")
    await eventually(async () => expect(await states()).toEqual(["bad dead 1: unknown customer"]))
  })

  it("left unsettled is a failed try, parked and in the end dead, and its key waits for it", async () => {
    const seen: string[] = []
    start(
      (async (delivery) => {
        seen.push(`${delivery.messageId} ${delivery.attempt}`)
        if (delivery.messageId === "forgotten") return undefined as never
        return delivery.ack()
      }) satisfies DeliveryHandler,
      { maxAttempts: 2 },
    )
    await send("forgotten", "after")
    await eventually(() => expect(seen).toEqual(["forgotten 1", "forgotten 2", "after 1"]))
    await eventually(async () =>
      expect(await states()).toEqual([
        "forgotten dead 2: its handler settled nothing: return delivery.ack() or delivery.nack()",
        "after handled 0",
      ]),
    )
  })

  it("saved, whose handler then fails, stays handled", async () => {
    start(async (delivery) => {
      await db.transaction((tx) => delivery.save(tx))
      throw new Error("too late")
    })
    await send("a")
    await eventually(async () => expect(await states()).toEqual(["a handled 0"]))
  })
})
