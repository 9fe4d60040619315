/** Who a message is, between services that are not all ours. */
import { spawn, spawnSync } from "node:child_process"
import { afterEach, assert, describe, inject, it } from "@effect/vitest"
import { sql } from "drizzle-orm"
import { consume } from "../../src/consumer/consume.ts"
import {
  assertOnceInOrder,
  brokers,
  effectCount,
  effectsDatabase,
  inboxStates,
  makeCleanups,
  numbered,
  send,
  startHere,
  subscribed,
  unique,
} from "../support/consumer-lab.ts"
import { installPackage } from "../support/debian.ts"
import { eventually, writeMessages } from "../support/relay.ts"
import { spawnRelay } from "../support/relay-process.ts"
import { rawStomp } from "../support/stomp-client.ts"

const cleanups = makeCleanups()
afterEach(cleanups.run)

interface Body {
  readonly n: number
}

const consumerNamed = (consumer: string, destination: string, order: "key" | "none" = "key") =>
  consume<Body>(destination, { consumer, order }, ({ tx, id, key, body, event }) =>
    tx.execute(
      sql`INSERT INTO effects (message_id, key, n, instance) VALUES (${id}, ${key}, ${body.n}, ${event ?? consumer})`,
    ),
  )

describe.each(brokers)("identities on $name", ({ url, topic }) => {
  it("two consumers of different names on one database both handle the same message", async () => {
    const database = await effectsDatabase(cleanups)
    const destination = topic(unique("orders"))
    for (const name of ["billing", "shipping"]) {
      const { lines } = startHere(consumerNamed(name, destination), database.url, url(), cleanups)
      await eventually(() => subscribed(lines), 20)
    }
    await send(url(), destination, numbered("m", 300, 30))
    await eventually(async () => assert.strictEqual(await effectCount(database.sql), 600), 20)
    for (const name of ["billing", "shipping"]) {
      const [row] = await database.sql`
        SELECT count(*)::int AS n, count(DISTINCT message_id)::int AS m FROM effects WHERE instance = ${name}`
      assert.deepStrictEqual({ ...row }, { n: 300, m: 300 })
    }
    assert.deepStrictEqual(await inboxStates(database.sql), { handled: 600 })
  })

  it("what django-outbox-pattern and .NET CAP send is handled once, by their ids; what has no id is dead, with a reason", async () => {
    const database = await effectsDatabase(cleanups)
    const destination = topic(unique("foreign"))
    const { lines } = startHere(consumerNamed("billing", destination), database.url, url(), cleanups)
    await eventually(() => subscribed(lines), 20)
    const client = await rawStomp(url())
    cleanups.add(async () => client.close())
    const django = {
      "dop-msg-id": "3f0f5c2e-8f8f-4f6e-9d36-5b2f0e1c7a11",
      "dop-msg-destination": destination,
      "dop-msg-sent-time": "2026-01-01 10:00:00.000000+00:00",
      "dop-msg-type": "Order",
      "dop-correlation-id": "c-1",
      "content-type": "application/json",
    }
    const cap = {
      "cap-msg-id": "1834092345678901248",
      "cap-msg-name": "order.created",
      "cap-corr-id": "1834092345678901248",
      "cap-corr-seq": "0",
      "cap-msg-type": "Order",
      "cap-senttime": "1/1/2026 10:00:00 AM +00:00",
    }
    for (let repeat = 0; repeat < 3; repeat++) {
      await client.send(destination, JSON.stringify({ n: 1 }), django)
      await client.send(destination, JSON.stringify({ n: 2 }), cap)
      await client.send(destination, JSON.stringify({ n: 3 }), { "content-type": "application/json" })
    }
    await client.send(destination, JSON.stringify({ n: 9 }), { "outbox-message-id": "last" })
    await eventually(async () => {
      assert.deepStrictEqual(await inboxStates(database.sql), { handled: 3, dead: 1 })
      assert.strictEqual(await effectCount(database.sql), 3)
    }, 20)
    const rows = await database.sql`SELECT message_id, n, instance FROM effects ORDER BY n`
    assert.deepStrictEqual(
      rows.map((row) => ({ ...row })),
      [
        { message_id: django["dop-msg-id"], n: 1, instance: "Order" },
        { message_id: cap["cap-msg-id"], n: 2, instance: "order.created" },
        { message_id: "last", n: 9, instance: "billing" },
      ],
    )
    const [dead] = await database.sql`SELECT message_id, last_error FROM outbox.inbox WHERE state = 'dead'`
    assert.match(dead?.["message_id"], /^sha256:/)
    assert.match(dead?.["last_error"], /^it carries no id/)
  })

  it("a consumer of Debian's python3-stomp reads what the relay sent, body and headers", async () => {
    const python = "/usr/bin/python3"
    const found = () => spawnSync(python, ["-c", "import stomp"]).status === 0
    if (!found() && !((await installPackage("python3-stomp")) && found())) {
      throw new Error("no python3-stomp: install it (Debian, Ubuntu: apt-get install python3-stomp)")
    }
    const database = await effectsDatabase(cleanups)
    const destination = `/queue/${unique("python")}`
    const { hostname, port } = new URL(url().replace(/^stomp:/, "http:"))
    const child = spawn(python, ["test/support/consumer-python.py", hostname, port, destination, "3"])
    const ended = new Promise((resolve) => child.once("exit", resolve))
    cleanups.add(async () => {
      child.kill("SIGKILL")
      await ended
    })
    let [output, errors] = ["", ""]
    child.stdout.on("data", (data) => {
      output += data
    })
    child.stderr.on("data", (data) => {
      errors += data
    })
    await eventually(() => assert.include(output, "subscribed", errors))
    const relay = spawnRelay(database.url, url())
    cleanups.add(() => relay.stop("SIGKILL"))
    await writeMessages(database.sql, { count: 3, key: "one", destination, body: '{"text":"grüße: \\n"}' })
    await eventually(
      () => assert.strictEqual(output.trim().split("\n").length, 4, errors + relay.output()),
      20,
    )
    const received = output
      .trim()
      .split("\n")
      .slice(1)
      .map((line) => JSON.parse(line) as { headers: Record<string, string>; body: string })
    const rows = await database.sql`SELECT * FROM outbox.messages ORDER BY position`
    for (const [index, row] of rows.entries()) {
      const { headers, body } = received[index]!
      assert.deepStrictEqual(JSON.parse(body), { text: "grüße: \n" })
      assert.deepInclude(headers, {
        "outbox-message-id": row["id"],
        "outbox-event": "test",
        "outbox-event-id": row["event_id"],
        "outbox-operation": "emit",
        "outbox-key": "one",
        "outbox-position": String(row["position"]),
        "outbox-time": row["created_at"].toISOString(),
        "dop-msg-id": row["id"],
        "content-type": "application/json",
      })
    }
  })
})

describe("a message written in one service", () => {
  it("has its effect in another, through relay, broker and consumer", async () => {
    const database = await effectsDatabase(cleanups)
    const { stompUrl } = inject("rabbitmq")
    const destination = `/topic/${unique("whole")}`
    const { lines } = startHere(consumerNamed("billing", destination), database.url, stompUrl, cleanups)
    await eventually(() => subscribed(lines), 20)
    const relay = spawnRelay(database.url, stompUrl)
    cleanups.add(() => relay.stop("SIGKILL"))
    await writeMessages(database.sql, { count: 1000, keys: 20, destination })
    await eventually(async () => assert.isAtLeast(await effectCount(database.sql), 1000), 30)
    await assertOnceInOrder(database.sql, 1000)
  })
})
