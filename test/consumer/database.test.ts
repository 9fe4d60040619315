/** Handlers on a real database: effect, record and next messages stand or fall together. */
import { randomUUID } from "node:crypto"
import { sql } from "drizzle-orm"
import { integer, pgTable, text } from "drizzle-orm/pg-core"
import { drizzle } from "drizzle-orm/postgres-js"
import { Effect, Layer, Logger, References, Schedule, Scope } from "effect"
import postgres from "postgres"
import { afterEach, beforeEach, expect, it } from "vitest"
import type { Broker } from "../../src/broker/broker.ts"
import { layerMemory, publish } from "../../src/broker/index.ts"
import {
  type Consumer,
  consume,
  type Handling,
  type RunningConsumer,
  startConsumer,
} from "../../src/consumer/index.ts"
import { defineOutbox, query } from "../../src/index.ts"
import { createDatabase, type TestDatabase } from "../support/postgres.ts"
import { eventually, soon } from "./harness.ts"

const invoices = pgTable("invoices", { id: integer().primaryKey(), note: text() })
const { withOutbox, emit, effect } = defineOutbox({
  invoices: { table: invoices, destination: "/topic/invoices" },
  "invoice.noted": { destination: "/topic/noted", serializer: (n: { readonly note: string }) => n },
})

let database: TestDatabase
let db: ReturnType<typeof drizzle>
let broker: Layer.Layer<Broker>
let running: RunningConsumer | undefined
beforeEach(async () => {
  database = await createDatabase()
  db = drizzle({ client: database.sql })
  await database.sql`CREATE TABLE invoices (id integer PRIMARY KEY, note text)`
  broker = Layer.succeedContext(
    await Effect.runPromise(Layer.buildWithScope(layerMemory(), Scope.makeUnsafe())),
  )
})
afterEach(async () => {
  await running?.stop()
  await database.drop()
})

const start = (consumer: Consumer) => {
  running = startConsumer(consumer, { db, broker })
}
const send = (body: unknown, headers: Readonly<Record<string, string>>) =>
  Effect.runPromise(
    publish([
      {
        id: randomUUID(),
        destination: "/queue/orders",
        headers,
        contentType: "application/json",
        body: JSON.stringify(body),
      },
    ]).pipe(Effect.provide(broker)),
  )
const options = { consumer: "billing", ...soon }
const incoming = { "outbox-message-id": "m1", "outbox-correlation-id": "c1", traceparent: "00-aa-bb-01" }
const written = async () =>
  (await database.sql`SELECT event, headers FROM outbox.messages ORDER BY position`).map(
    ({ event, headers }) => ({ event, headers }),
  )
const carried = { "outbox-correlation-id": "c1", "outbox-causation-id": "m1", traceparent: "00-aa-bb-01" }

it("what a handler writes carries the ids of what it handles on, in savepoints too, unless it says otherwise", async () => {
  start(
    consume("/queue/orders", options, async ({ tx }) => {
      await withOutbox(tx, invoices, { id: 1 })
      await tx.transaction(async (inner) => {
        await inner.transaction((innermost) => emit(innermost, "invoice.noted", { note: "deep" }))
      })
      await emit(tx, "invoice.noted", { note: "own" }, { correlationId: "c2" })
    }),
  )
  await send({}, incoming)
  await eventually(async () =>
    expect(await written()).toEqual([
      { event: "invoices", headers: carried },
      { event: "invoice.noted", headers: carried },
      { event: "invoice.noted", headers: { ...carried, "outbox-correlation-id": "c2" } },
    ]),
  )
})

it("an Effect finds the transaction as its service; a try that fails leaves nothing behind", async () => {
  let tries = 0
  start(
    consume("/queue/orders", options, ({ attempt }) =>
      Effect.gen(function* () {
        tries++
        yield* effect.withOutbox(invoices, { id: attempt })
        yield* query((tx) => tx.update(invoices).set({ note: "seen" }))
        if (attempt < 3) return yield* Effect.fail("not yet")
      }),
    ),
  )
  await send({}, incoming)
  await eventually(async () => expect(await written()).toEqual([{ event: "invoices", headers: carried }]))
  expect(tries).toBe(3)
  expect(await database.sql`SELECT id, note FROM invoices`).toEqual([{ id: 3, note: "seen" }])
})

it("a statement that failed and was caught does not commit half a handler", async () => {
  await database.sql`INSERT INTO invoices VALUES (7)`
  let tries = 0
  start(
    consume("/queue/orders", { ...options, maxAttempts: 2 }, async ({ tx }) => {
      tries++
      await tx.insert(invoices).values({ id: 8 })
      await tx
        .insert(invoices)
        .values({ id: 7 })
        .catch(() => {})
    }),
  )
  await send({}, incoming)
  await eventually(async () => {
    const [row] = await database.sql`SELECT state, last_error FROM outbox.inbox`
    expect(row).toMatchObject({ state: "dead", last_error: expect.stringMatching(/duplicate key/) })
  })
  expect(tries).toBe(2)
  expect(await database.sql`SELECT id FROM invoices`).toEqual([{ id: 7 }])
})

it("two consumers of one database each have their effect of the same message", async () => {
  const seen: string[] = []
  const other = startConsumer(
    consume("/topic/orders", { ...options, consumer: "shipping" }, async () => void seen.push("shipping")),
    { db, broker },
  )
  start(consume("/topic/orders", options, async () => void seen.push("billing")))
  await Promise.all([other.ready, running?.ready])
  await Effect.runPromise(
    publish([
      {
        id: "1",
        destination: "/topic/orders",
        headers: incoming,
        contentType: "application/json",
        body: "1",
      },
    ]).pipe(Effect.provide(broker)),
  )
  await eventually(() => expect(seen.toSorted()).toEqual(["billing", "shipping"]))
  await eventually(async () =>
    expect(await database.sql`SELECT consumer FROM outbox.inbox WHERE message_id = 'm1' ORDER BY 1`).toEqual([
      { consumer: "billing" },
      { consumer: "shipping" },
    ]),
  )
  await other.stop()
})

it("a dead letter keeps the id of its message, whoever made it", async () => {
  start(
    consume("/queue/orders", { ...options, maxAttempts: 1, deadLetter: true }, () => Promise.reject("no")),
  )
  await send({}, { "cap-msg-id": "9007199254740993", "cap-msg-name": "order.placed" })
  await eventually(async () => {
    const [row] = await database.sql`SELECT destination, headers FROM outbox.messages`
    expect(row).toMatchObject({
      destination: "/queue/DLQ.orders",
      headers: {
        "outbox-message-id": "9007199254740993",
        "outbox-dead-reason": "no",
        "cap-msg-id": "9007199254740993",
      },
    })
  })
})

it("a consumer that ends where nobody looks at `done` says why", async () => {
  const lines: unknown[] = []
  const logger = Logger.make<unknown, void>(({ fiber, logLevel, message }) => {
    lines.push([logLevel, String(message), fiber.getRef(References.CurrentLogAnnotations)["consumer"]])
  })
  startConsumer(
    consume("/queue/orders", { consumer: "billing", retention: "1 second" }, async () => {}),
    { db, broker, layer: Logger.layer([logger]) },
  )
  await eventually(() =>
    expect(lines).toContainEqual([
      "Error",
      expect.stringMatching(/^the consumer has ended: `retention` \(1s\) is shorter/),
      "billing",
    ]),
  )
})

it("a failed query is told by what happened and its statement, without its values, in either form", async () => {
  const note = (id: number) => (tx: Handling<unknown>["tx"]) =>
    tx.insert(invoices).values({ id, note: "secret" })
  await database.sql`INSERT INTO invoices VALUES (1)`
  const both = consume("/queue/orders", { ...options, retry: Schedule.spaced("1 hour") }, ({ tx, id }) =>
    id === "m1" ? note(1)(tx) : Effect.asVoid(query(note(1))),
  )
  start(both)
  await running?.ready
  await send({}, { ...incoming, "outbox-message-id": "m1" })
  await send({}, { ...incoming, "outbox-message-id": "m2" })
  await eventually(async () => {
    const rows = await database.sql`SELECT last_error AS words FROM outbox.inbox WHERE state = 'parked'`
    expect(rows.map(({ words }) => words)).toEqual(
      Array(2).fill(
        'duplicate key value violates unique constraint "invoices_pkey" (insert into "invoices" ("id", "note") values ($1, $2))',
      ),
    )
  })
})

it("a table that changes under a running consumer costs its messages no attempt", async () => {
  const attempts: number[] = []
  const lines: string[] = []
  const logger = Logger.make(({ message }) => {
    lines.push(String(message))
  })
  running = startConsumer(
    consume("/queue/orders", options, async ({ tx, attempt }: Handling) => {
      attempts.push(attempt)
      await tx.execute(sql`SELECT * FROM invoices WHERE id <> ${0}`)
    }),
    { db, broker, layer: Logger.layer([logger]) },
  )
  // Often enough for every connection of the pool.
  const several = async (from: number) => {
    for (let n = from; n < from + 20; n++) await send({}, { "outbox-message-id": `m${n}` })
    await eventually(async () =>
      expect(await database.sql`SELECT FROM outbox.inbox WHERE state = 'handled'`).toHaveLength(from + 20),
    )
  }
  await several(0)
  await database.sql`ALTER TABLE invoices ADD COLUMN paid boolean`
  await several(20)
  expect(attempts.length).toBeGreaterThan(40)
  expect(new Set(attempts)).toEqual(new Set([1]))
  expect(lines).not.toContain("a handler failed")
})

it("what the database was away for before the handler began costs a message no attempt, however often", async () => {
  const attempts: number[] = []
  const [{ definition }] = await database.sql<[{ definition: string }]>`
    SELECT pg_get_functiondef('outbox.inbox_claim_one'::regproc) AS definition`
  const head = definition.slice(0, definition.indexOf("LANGUAGE"))
  await database.sql`CREATE SEQUENCE refusals`
  await database.sql.unsafe(`${head} LANGUAGE plpgsql AS $$ BEGIN
    PERFORM nextval('public.refusals'); RAISE 'sorry, too many clients already' USING ERRCODE = '53300'; END $$`)
  start(
    consume("/queue/orders", options, async ({ attempt }) => {
      attempts.push(attempt)
    }),
  )
  await send({}, incoming)
  await eventually(async () =>
    expect(Number((await database.sql`SELECT last_value AS n FROM refusals`)[0]?.["n"])).toBeGreaterThan(7),
  )
  await database.sql.unsafe(definition)
  await eventually(() => expect(attempts).toEqual([1]))
})

it("what waits begins in the same write as the commit before it", async () => {
  let given: string[] = []
  const client = postgres(database.url, { onnotice: () => {}, debug: (_, text) => void given.push(text) })
  // Begun by itself it would read "begin  DEFERRABLE", as postgres.js puts it together.
  const followed = () => given.filter((text) => text === "begin DEFERRABLE").length
  const round = async (turn: number) => {
    given = []
    const handled: string[] = []
    const waiting = ["m1", "m2", "m3"].map((id) => `${id}-${turn}`)
    for (const id of waiting) await send({}, { "outbox-message-id": id, "outbox-key": id })
    const consumer = consume("/queue/orders", { ...options, parallel: 1 }, async ({ id }) => {
      handled.push(id)
    })
    running = startConsumer(consumer, { db: drizzle({ client }), broker })
    await eventually(() => expect(handled).toEqual(waiting))
    await running.stop()
    const work = given.filter((text) => /^(begin|commit|SELECT .*inbox_claim_one)/s.test(text))
    const words = work.map((text) => text.trim().split(/\s+/)[0])
    expect(words).toEqual([
      "begin",
      ...["SELECT", "commit", "begin", "SELECT", "commit", "begin"],
      "SELECT",
      "commit",
    ])
    expect(await database.sql`SELECT count(*)::int AS n FROM outbox.inbox WHERE state = 'handled'`).toEqual([
      { n: 3 * turn },
    ])
  }
  try {
    // One that took longer than its connection may be kept, as on a busy machine, is followed by none.
    for (let turn = 1; turn === 1 || (turn <= 10 && followed() < 2); turn++) await round(turn)
    expect(followed()).toBe(2)
  } finally {
    await client.end()
  }
})
