/** docs/django-outbox-pattern.md, on RabbitMQ: queues and messages as that library makes them. */
import { randomUUID } from "node:crypto"
import { readFileSync } from "node:fs"
import { assert, describe, inject, it } from "@effect/vitest"
import { sql } from "drizzle-orm"
import { drizzle } from "drizzle-orm/postgres-js"
import { type Layer, Logger } from "effect"
import { layerStomp } from "../../src/broker/stomp/stomp.ts"
import {
  type Consumer,
  consume,
  consumeDelivery,
  type Handling,
  startConsumer,
} from "../../src/consumer/index.ts"
import { createDatabase, type TestDatabase } from "../support/postgres.ts"
import { eventually } from "../support/relay.ts"
import { rawStomp } from "../support/stomp-client.ts"

/** The headers of its SUBSCRIBE frames. */
const subscribeHeaders = (queue: string) => ({
  durable: "true",
  "auto-delete": "false",
  "prefetch-count": "1",
  exclusive: "False",
  "x-queue-name": queue,
  "x-dead-letter-routing-key": `DLQ.${queue}`,
  "x-dead-letter-exchange": "",
  ack: "client",
})

/** The headers of its SEND frames. */
const sendHeaders = (id: string, destination: string) => ({
  "dop-msg-id": id,
  "dop-msg-destination": destination,
  "dop-msg-type": "Published",
  "dop-msg-sent-time": "2026-11-23T12:00:00.123Z",
  "dop-correlation-id": `correlation-${id}`,
})

const start = (database: TestDatabase, consumer: Consumer) =>
  startConsumer(consumer, {
    db: drizzle({ client: database.sql }),
    broker: layerStomp({ url: inject("rabbitmq").stompUrl }),
    layer: Logger.layer([]) as Layer.Layer<never>,
  })

const handled = async (database: TestDatabase, id: string) =>
  eventually(async () => {
    const rows = await database.sql`SELECT state FROM outbox.inbox WHERE message_id = ${id}`
    assert.strictEqual(rows[0]?.["state"], "handled")
  }, 20)

describe("a queue of django-outbox-pattern", () => {
  it("is read on in either way, each message once, also those handled before", async () => {
    const database = await createDatabase()
    const name = `django-${randomUUID().slice(0, 8)}`
    const topic = `/topic/${name}.v1`
    const django = await rawStomp(inject("rabbitmq").stompUrl)
    try {
      await database.sql`CREATE TABLE invoices (order_id integer PRIMARY KEY, correlation text NOT NULL, event text)`
      await database.sql`CREATE TABLE received (msg_id text, headers jsonb, added timestamptz NOT NULL DEFAULT now())`
      await database.sql`INSERT INTO received VALUES ('known', '{}')`
      const [, seed = ""] = /^```sql\n(.*?)^```$/ms.exec(
        readFileSync("docs/django-outbox-pattern.md", "utf8"),
      ) as RegExpExecArray
      await database.sql.unsafe(seed)

      const old = await rawStomp(inject("rabbitmq").stompUrl)
      await old.subscribe(topic, () => {}, subscribeHeaders(name))
      old.close()
      await old.closed
      const send = (id: string, order: number) =>
        django.send(topic, JSON.stringify({ id: order }), sendHeaders(id, topic))

      const handler = async ({ body, tx, cause, event }: Handling) => {
        const { id } = body as { id: number }
        await tx.execute(sql`INSERT INTO invoices VALUES (${id}, ${cause.correlationId}, ${event})`)
      }
      const first = start(database, consume(`/amq/queue/${name}`, { consumer: "billing" }, handler))
      await send("known", 1)
      await send("a", 2)
      await send("a", 2)
      await send("b", 3)
      await handled(database, "b")
      await first.stop()

      const second = start(
        database,
        consume(
          topic,
          {
            consumer: "billing",
            queue: name,
            headers: { "x-dead-letter-exchange": "", "x-dead-letter-routing-key": `DLQ.${name}` },
          },
          handler,
        ),
      )
      await send("b", 3)
      await send("c", 4)
      await handled(database, "c")
      await second.stop()

      assert.deepStrictEqual(
        [...(await database.sql`SELECT * FROM invoices ORDER BY order_id`)].map((row) => ({ ...row })),
        [
          { order_id: 2, correlation: "correlation-a", event: "Published" },
          { order_id: 3, correlation: "correlation-b", event: "Published" },
          { order_id: 4, correlation: "correlation-c", event: "Published" },
        ],
      )
    } finally {
      django.close()
      await database.drop()
    }
  })

  it("a delivery saved while others of its key became parked waits behind them", async () => {
    const database = await createDatabase()
    const queue = `django-${randomUUID().slice(0, 8)}`
    const django = await rawStomp(inject("rabbitmq").stompUrl)
    const db = drizzle({ client: database.sql })
    const saved: Array<boolean> = []
    const running = start(
      database,
      consumeDelivery(`/queue/${queue}`, { consumer: "billing", key: () => "k" }, async (delivery) => {
        if (delivery.attempt === 1 && saved.length === 0) {
          await database.sql`
            INSERT INTO outbox.inbox (consumer, message_id, queue, destination, key, state, available_at, headers, body)
            VALUES ('billing', 'older', ${queue}, ${delivery.destination}, 'k', 'parked', now() + interval '1 hour', '{}', '')`
        }
        return await db.transaction(async (tx) => {
          saved.push(await delivery.save(tx))
          return delivery.ack()
        })
      }),
    )
    try {
      await django.send(`/queue/${queue}`, "{}", sendHeaders("late", queue))
      await eventually(async () => {
        const rows =
          await database.sql`SELECT state, available_at FROM outbox.inbox WHERE message_id = 'late'`
        assert.deepStrictEqual(
          rows.map((row) => ({ ...row })),
          [{ state: "parked", available_at: null }],
        )
      }, 20)
      assert.deepStrictEqual(saved, [false])
    } finally {
      await running.stop()
      django.close()
      await database.drop()
    }
  })
})
