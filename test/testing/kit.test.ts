/** The testing kit, the same on every driver. */
import { eq, sql } from "drizzle-orm"
import { integer, pgTable, text } from "drizzle-orm/pg-core"
import { Effect, Schedule, Schema } from "effect"
import { afterAll, assert, beforeAll, beforeEach, describe, it } from "vitest"
import { consume, Reject, Snooze } from "../../src/consumer/index.ts"
import { type AnyTransaction, defineOutbox, query } from "../../src/index.ts"
import { type TestOutbox, testOutbox } from "../../src/testing.ts"
import { databases, type OpenDatabase } from "./databases.ts"

const orders = pgTable("orders", {
  id: integer("id").primaryKey().generatedAlwaysAsIdentity(),
  customer: text("customer").notNull(),
  total: integer("total").notNull(),
})
const invoices = pgTable("invoices", {
  id: integer("id").primaryKey().generatedAlwaysAsIdentity(),
  order: integer("order_id").notNull(),
  total: integer("total").notNull(),
})
const notes = pgTable("notes", { text: text("text").notNull() })

const { withOutbox, emit, events } = defineOutbox({
  orders: {
    table: orders,
    destination: "/topic/orders",
    version: "v2",
    key: (o) => o.customer,
    serializer: (o) => ({ id: o.id, total: o.total }),
  },
  invoices: { table: invoices, destination: "/topic/invoices", fields: ["id", "order"] },
  "job.due": { destination: "/queue/jobs", serializer: (job: { readonly name: string }) => job },
  "meter.read": {
    destination: "/topic/meters",
    serializer: (reading: { readonly at: Date }) => reading,
    schema: Schema.Struct({ at: Schema.Date }),
  },
})

for (const [name, open] of Object.entries(databases)) {
  describe(`the testing kit on ${name}`, () => {
    let opened: OpenDatabase
    let kit: TestOutbox
    beforeAll(async () => {
      opened = await open()
      for (const table of [
        "orders (id integer PRIMARY KEY GENERATED ALWAYS AS IDENTITY, customer text NOT NULL, total integer NOT NULL)",
        "invoices (id integer PRIMARY KEY GENERATED ALWAYS AS IDENTITY, order_id integer NOT NULL, total integer NOT NULL)",
        "notes (text text NOT NULL UNIQUE)",
      ])
        await opened.db.execute(sql.raw(`CREATE TABLE ${table}`))
    })
    beforeEach(async () => {
      kit = await testOutbox(opened.db)
      await kit.clear()
      for (const table of [orders, invoices, notes]) await opened.db.delete(table)
    })
    afterAll(() => opened?.close())

    const order = (total: number, options: { customer?: string; delay?: "5 minutes" } = {}) =>
      opened.db.transaction((tx) =>
        withOutbox(
          tx,
          orders,
          { customer: options.customer ?? "c-1", total },
          options.delay === undefined ? {} : { delay: options.delay },
        ),
      )
    const note = (tx: AnyTransaction, text: string) => tx.insert(notes).values({ text })
    const noted = async () => (await opened.db.select().from(notes)).map((row) => row.text)
    const retry = Schedule.spaced("1 minute")

    it("publishes what was written and has it handled once by every consumer of the topic", async () => {
      kit.consume(events.orders, { consumer: "billing" }, async ({ body, tx, key, event }) => {
        await note(tx, `billing ${body.total} ${key} ${event}`)
      })
      kit.consume(events.orders, { consumer: "shipping" }, async ({ body, tx }) => {
        await note(tx, `shipping ${body.total}`)
      })
      await order(7)
      const report = await kit.drain()
      assert.deepStrictEqual(report, {
        published: 1,
        handled: 2,
        duplicates: 0,
        failed: 0,
        dead: 0,
        parked: 0,
        failures: [],
      })
      assert.deepStrictEqual(await noted(), ["billing 7 c-1 orders", "shipping 7"])
      assert.include(await kit.drain(), { published: 0, handled: 0 })
    })

    it("shows what was published, typed by its event", async () => {
      await order(7)
      await opened.db.transaction(async (tx) => {
        await emit(tx, "job.due", { name: "sweep" }, { headers: { tenant: "a" } })
        await emit(tx, "meter.read", { at: new Date(0) })
      })
      assert.deepStrictEqual(await kit.published(), [])
      assert.include(await kit.drain(), { published: 3, handled: 0 })
      const [published] = await kit.published(events.orders)
      const total: number | undefined = published?.body.total
      assert.strictEqual(total, 7)
      assert.include(published, {
        destination: "/topic/orders.v2",
        event: "orders",
        key: "c-1",
        operation: "insert",
      })
      assert.strictEqual(published?.headers["outbox-version"], "v2")
      const [job] = await kit.published("/queue/jobs")
      assert.deepStrictEqual(job?.body, { name: "sweep" })
      assert.strictEqual(job?.headers["tenant"], "a")
      const [reading] = await kit.published(events["meter.read"])
      assert.instanceOf(reading?.body.at, Date)
      assert.lengthOf(await kit.published(), 3)
    })

    it("gives a queue's message to one consumer", async () => {
      for (const consumer of ["first", "second"])
        kit.consume(events["job.due"], { consumer }, async ({ tx }) => {
          await note(tx, consumer)
        })
      await opened.db.transaction((tx) => emit(tx, "job.due", { name: "sweep" }))
      assert.include(await kit.drain(), { published: 1, handled: 1 })
      assert.deepStrictEqual(await noted(), ["first"])
    })

    it("publishes nothing of a transaction that was rolled back", async () => {
      await opened.db
        .transaction(async (tx) => {
          await withOutbox(tx, orders, { customer: "c-1", total: 1 })
          throw new Error("changed my mind")
        })
        .catch(() => {})
      assert.include(await kit.drain(), { published: 0 })
    })

    it("handles a message of the same id once", async () => {
      kit.consume(events.orders, { consumer: "billing" }, async ({ tx, body }) => {
        await note(tx, `order ${body.id} ${Math.random()}`)
      })
      const first = await kit.deliver(events.orders, { id: 1, total: 2 }, { id: "m-1" })
      assert.include(first, { handled: 1, duplicates: 0 })
      const second = await kit.deliver(events.orders, { id: 1, total: 2 }, { id: "m-1" })
      assert.include(second, { handled: 0, duplicates: 1 })
      assert.lengthOf(await noted(), 1)
    })

    it("knows the id of what django-outbox-pattern sends", async () => {
      const seen: unknown[] = []
      kit.consume("/topic/legacy", { consumer: "billing" }, async ({ body, id, event }) => {
        seen.push([body, id, event])
      })
      const headers = { "dop-msg-id": "5b5c", "dop-msg-type": "Order" }
      assert.include(await kit.deliver("/topic/legacy", { n: 1 }, { headers }), { handled: 1 })
      assert.include(await kit.deliver("/topic/legacy", '{"n":1}', { headers }), { duplicates: 1 })
      assert.deepStrictEqual(seen, [[{ n: 1 }, "5b5c", "Order"]])
      const nameless = await kit.deliver("/topic/legacy", { n: 2 }, { id: null })
      assert.strictEqual(nameless.dead, 1)
      assert.match(nameless.failures[0]?.error ?? "", /it carries no id/)
      const stranger = await kit.deliver("/topic/nobody", 1).catch((error: Error) => error)
      assert.match(String(stranger), /nobody consumes \/topic\/nobody/)
    })

    it("encodes what it delivers as the event's schema does", async () => {
      const seen: Date[] = []
      kit.consume(events["meter.read"], { consumer: "billing" }, ({ body }) => {
        seen.push(body.at)
        return undefined
      })
      assert.deepInclude(await kit.deliver(events["meter.read"], { at: new Date(5) }), {
        handled: 1,
        failures: [],
      })
      assert.deepStrictEqual(seen, [new Date(5)])
    })

    it("tries a failed message again when its pause has passed, and keeps nothing of the failed try", async () => {
      let down = true
      const boom = new Error("the bank is closed")
      kit.consume(events.orders, { consumer: "billing", retry }, async ({ tx, attempt }) => {
        await note(tx, `try ${attempt}`)
        if (down) throw boom
      })
      await order(1)
      const first = await kit.drain()
      assert.include(first, { handled: 0, failed: 1, parked: 1 })
      assert.lengthOf(first.failures, 1)
      assert.include(first.failures[0], {
        consumer: "billing",
        event: "orders",
        key: "c-1",
        attempts: 1,
        outcome: "parked",
        error: "the bank is closed",
      })
      assert.strictEqual(first.failures[0]?.cause, boom)
      assert.deepStrictEqual(await noted(), [])
      assert.deepInclude((await kit.parked())[0], { error: "the bank is closed", attempts: 1 })
      down = false
      await kit.advance("59 seconds")
      assert.include(await kit.drain(), { handled: 0, parked: 1 })
      await kit.advance("1 second")
      assert.include(await kit.drain(), { handled: 1, failed: 0, parked: 0 })
      assert.deepStrictEqual(await noted(), ["try 2"])
    })

    it("tries a message once in a drain, however short its pause", async () => {
      let tries = 0
      const options = { consumer: "billing", retry: Schedule.spaced("1 millis"), maxAttempts: 3 }
      kit.consume(events.orders, options, async () => {
        tries++
        await new Promise((resolve) => setTimeout(resolve, 5))
        throw new Error("never")
      })
      await order(1)
      await kit.drain()
      assert.strictEqual(tries, 1)
      await kit.advance("1 second")
      await kit.drain()
      await kit.advance("1 second")
      assert.include(await kit.drain(), { dead: 1, parked: 0 })
      assert.strictEqual(tries, 3)
    })

    it("tries as often as it is told, after pauses without jitter, and is dead then", async () => {
      let tries = 0
      kit.consume(events.orders, { consumer: "billing", maxAttempts: 7 }, async () => {
        tries++
        throw new Error(`no ${tries}`)
      })
      await order(1)
      for (let drain = 1; drain < 7; drain++) {
        assert.include(await kit.drain(), { failed: 1, dead: 0, parked: 1 })
        await kit.advance(`${2 ** (drain - 1)} seconds`)
      }
      const last = await kit.drain()
      assert.include(last, { failed: 1, dead: 1, parked: 0 })
      assert.include(last.failures[0], { outcome: "dead", error: "no 7", attempts: 7 })
    })

    it("makes dead what is rejected, and publishes its copy", async () => {
      const options = { consumer: "billing", deadLetter: true }
      kit.consume(events.orders, options, async ({ tx }) => {
        await note(tx, "lost")
        throw new Reject({ reason: "no such customer" })
      })
      await order(1)
      const report = await kit.drain()
      assert.include(report, { published: 2, handled: 0, dead: 1, failed: 0, parked: 0 })
      assert.include(report.failures[0], { outcome: "dead", error: "no such customer", attempts: 1 })
      const [dead] = await kit.dead()
      assert.include(dead, { consumer: "billing", error: "no such customer" })
      const [copy] = await kit.published("/queue/DLQ.billing.orders.v2")
      assert.strictEqual(copy?.headers["outbox-dead-reason"], "no such customer")
      assert.strictEqual(copy?.id, dead?.id)
      assert.deepStrictEqual(await noted(), [])
    })

    it("brings a snoozed message back without counting the try", async () => {
      const attempts: number[] = []
      kit.consume(events.orders, { consumer: "billing" }, async ({ attempt }) => {
        attempts.push(attempt)
        if (attempts.length === 1) throw new Snooze({ duration: "2 hours" })
      })
      await order(1)
      assert.deepInclude(await kit.drain(), { handled: 0, parked: 1, failures: [] })
      await kit.advance("1 hour")
      assert.include(await kit.drain(), { handled: 0, parked: 1 })
      await kit.advance("1 hour")
      assert.include(await kit.drain(), { handled: 1, parked: 0 })
      assert.deepStrictEqual(attempts, [1, 1])
    })

    it("publishes a delayed message when its time has come, and buries what outlived its time", async () => {
      await order(1, { delay: "5 minutes" })
      assert.include(await kit.drain(), { published: 0 })
      await kit.advance("4 minutes")
      assert.include(await kit.drain(), { published: 0 })
      await kit.advance("1 minute")
      assert.include(await kit.drain(), { published: 1 })
      await opened.db.transaction((tx) => emit(tx, "job.due", { name: "late" }, { timeToLive: "1 minute" }))
      await kit.advance("1 minute")
      const report = await kit.drain()
      assert.include(report, { published: 0, dead: 1 })
      assert.match(report.failures[0]?.error ?? "", /time to live/)
      assert.strictEqual(report.failures[0]?.consumer, null)
    })

    it("keeps the order of a key behind a parked message, and holds no other", async () => {
      let down = true
      const handled: number[] = []
      kit.consume(events.orders, { consumer: "billing", retry }, async ({ body }) => {
        if (down && body.total === 1) throw new Error("not yet")
        handled.push(body.total)
      })
      await order(1, { customer: "a" })
      await order(2, { customer: "a" })
      await order(3, { customer: "b" })
      await order(4, { customer: "a" })
      assert.include(await kit.drain(), { handled: 1, failed: 1, parked: 3 })
      assert.deepStrictEqual(handled, [3])
      assert.deepStrictEqual(
        (await kit.parked()).map(({ key, attempts }) => [key, attempts]),
        [
          ["a", 1],
          ["a", 0],
          ["a", 0],
        ],
      )
      down = false
      await kit.advance("1 minute")
      assert.include(await kit.drain(), { handled: 3, parked: 0 })
      assert.deepStrictEqual(handled, [3, 1, 2, 4])
    })

    it("gives batches, and one by one what fails together", async () => {
      const calls: number[][] = []
      const options = { consumer: "billing", batch: { size: 3 } }
      kit.consumeBatch(events.orders, options, async (messages, { tx }) => {
        calls.push(messages.map(({ body }) => body.total))
        for (const { body } of messages) {
          await note(tx, String(body.total))
          if (body.total === 5) throw new Error("five")
        }
      })
      for (const total of [1, 2, 3, 4, 5]) await order(total, { customer: String(total) })
      const report = await kit.drain()
      assert.include(report, { published: 5, handled: 4, failed: 1, parked: 1 })
      assert.deepStrictEqual(calls, [[1, 2, 3], [4, 5], [4], [5]])
      assert.deepStrictEqual(await noted(), ["1", "2", "3", "4"])
    })

    it("follows a saga: what a handler writes is handled, and carries its cause on", async () => {
      kit.consume(events.orders, { consumer: "billing" }, async ({ body, tx }) => {
        await withOutbox(tx, invoices, { order: body.id, total: body.total })
      })
      kit.consume(events.invoices, { consumer: "mail" }, async ({ body, tx }) => {
        await note(tx, `invoice for order ${body.order}`)
      })
      const { id } = await order(9)
      assert.deepInclude(await kit.drain(), { published: 2, handled: 2, failures: [] })
      assert.deepStrictEqual(await noted(), [`invoice for order ${id}`])
      const [cause] = await kit.published(events.orders)
      const [effect] = await kit.published(events.invoices)
      assert.strictEqual(effect?.headers["outbox-causation-id"], cause?.id)
      assert.strictEqual(effect?.headers["outbox-correlation-id"], cause?.id)
    })

    it("runs handlers that are Effects, and consumers that the program has made", async () => {
      kit.add(
        consume(
          events.orders,
          { consumer: "billing" },
          Effect.fnUntraced(function* ({ body }) {
            if (body.total > 1) yield* new Reject({ reason: "too much" })
            yield* query((tx) => note(tx, `${body.total}`))
          }),
        ),
      )
      await order(1)
      await order(2)
      assert.include(await kit.drain(), { handled: 1, dead: 1 })
      assert.deepStrictEqual(await noted(), ["1"])
      assert.throws(() => kit.add(Effect.never as never), /this is no consumer/)
    })

    it("hands deliveries to callbacks that open their own transaction", async () => {
      kit.consumeDelivery("/topic/legacy", { consumer: "billing" }, async (delivery) => {
        if (delivery.text() === "bad") return delivery.nack("bad")
        await opened.db.transaction(async (tx) => {
          if (await delivery.save(tx)) await note(tx, delivery.text())
        })
        return delivery.ack()
      })
      const headers = { "dop-msg-id": "1" }
      assert.include(await kit.deliver("/topic/legacy", "hello", { headers }), { handled: 1 })
      assert.include(await kit.deliver("/topic/legacy", "hello", { headers }), { handled: 0, duplicates: 1 })
      assert.include(await kit.deliver("/topic/legacy", "bad"), { dead: 1 })
      assert.deepStrictEqual(await noted(), ["hello"])
    })

    it("gives up on a message that leads to itself", async () => {
      kit.consume(events["job.due"], { consumer: "jobs" }, async ({ tx }) => {
        await emit(tx, "job.due", { name: "again" })
      })
      await opened.db.transaction((tx) => emit(tx, "job.due", { name: "first" }))
      const error = await kit.drain({ limit: 20 }).catch((error: Error) => error)
      assert.match(String(error), /gave up after 20 tries.*"job\.due" to \/queue\/jobs.*drain\(\{ limit \}\)/)
      const snoozed = await testOutbox(opened.db)
      snoozed.consume("/queue/z", { consumer: "z" }, async () => {
        throw new Snooze({ duration: 0 })
      })
      await snoozed.deliver("/queue/z", 1)
      const again = await snoozed.drain({ limit: 20 }).catch((error: Error) => error)
      assert.match(String(again), /gave up after 20 tries/)
    })

    it("does not count as handled what a caught, failed statement has undone", async () => {
      await opened.db.insert(notes).values({ text: "taken" })
      kit.consume(events.orders, { consumer: "billing" }, async ({ tx }) => {
        await note(tx, "effect")
        await note(tx, "taken").catch(() => {})
      })
      await order(1)
      const report = await kit.drain()
      assert.include(report, { handled: 0, failed: 1, parked: 1 })
      assert.match(report.failures[0]?.error ?? "", /duplicate key/)
      await opened.db.delete(notes).where(eq(notes.text, "taken"))
      await kit.advance("5 minutes")
      assert.include(await kit.drain(), { handled: 1, parked: 0 })
      assert.deepStrictEqual((await noted()).sort(), ["effect", "taken"])
    })

    it("ends a handler that is over its time, as one on PGlite is that waits for another connection", async () => {
      const options = { consumer: "billing", timeout: "300 millis" } as const
      kit.consume(events.orders, options, async () => {
        await opened.db.select().from(notes)
      })
      await order(1)
      const report = await kit.drain()
      if (name === "PGlite")
        assert.match(report.failures[0]?.error ?? "", /the handler took longer than 300ms/)
      else assert.deepInclude(report, { handled: 1, failures: [] })
    })

    it.skipIf(name === "PGlite")("rejects when the database fails, and delivers again", async () => {
      let tries = 0
      kit.consume(events.orders, { consumer: "billing" }, async ({ tx }) => {
        await note(tx, "effect")
        if (++tries === 1) await tx.execute(sql`SELECT pg_terminate_backend(pg_backend_pid())`)
      })
      await order(1)
      const error = await kit.drain().catch((error: Error) => error)
      assert.match(String(error), /the database failed while messages were handled/)
      assert.include(await kit.drain(), { handled: 1, duplicates: 0 })
      assert.deepStrictEqual(await noted(), ["effect"])
      const wrong = await kit.advance("soon" as never).catch((error: Error) => error)
      assert.match(String(wrong), /advance\(\) takes a finite duration/)
    })

    it("applies its migrations once, and in a schema of another name", async () => {
      const other = await testOutbox(opened.db, { schema: "tenant a" })
      await testOutbox(opened.db, { schema: "tenant a" })
      other.consume("/queue/z", { consumer: "z" }, async () => {})
      assert.include(await other.deliver("/queue/z", 1, { id: "1" }), { handled: 1 })
      const [row] = await opened.db.select({ count: sql<number>`count(*)::int` }).from(sql`"tenant a".inbox`)
      assert.strictEqual(row?.count, 1)
    })

    it("makes drains of several callers follow each other", async () => {
      let running = 0
      kit.consume(events.orders, { consumer: "billing" }, async () => {
        assert.strictEqual(++running, 1)
        await new Promise((resolve) => setTimeout(resolve, 2))
        running--
      })
      for (const total of [1, 2, 3]) await order(total, { customer: String(total) })
      const reports = await Promise.all([kit.drain(), kit.drain()])
      assert.deepStrictEqual(
        reports.map(({ handled, failed }) => [handled, failed]),
        [
          [3, 0],
          [0, 0],
        ],
      )
    })
  })
}

/** Compiled, never run. */
export const misuse = async (kit: TestOutbox) => {
  // @ts-expect-error the event's body has numbers
  await kit.deliver(events.orders, { id: "1", total: 2 })
  // @ts-expect-error the body has no such field
  kit.consume(events.orders, { consumer: "billing" }, async ({ body }) => body.customer)
  // @ts-expect-error a consumer needs a name
  kit.consume(events.orders, {}, async () => {})
}
