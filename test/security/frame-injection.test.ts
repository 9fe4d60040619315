/** Whatever a row holds, it arrives as written or is given up with a reason: never another frame, a lost row or a stuck relay. */
import { randomBytes } from "node:crypto"
import { Effect } from "effect"
import { afterEach, assert, describe, inject, it } from "vitest"
import { layerStomp } from "../../src/broker/stomp/stomp.ts"
import { defineOutbox } from "../../src/index.ts"
import { createDatabase } from "../support/postgres.ts"
import { eventually, relayLayer, startRelay } from "../support/relay.ts"
import { type RawFrame, rawStomp } from "../support/stomp-client.ts"

const cleanups: Array<() => Promise<unknown>> = []
afterEach(async () => {
  for (const clean of cleanups.splice(0).reverse()) await clean()
})

const MEGA = 1 << 20
const frame = (queue: string) => `\n\n\0SEND\ndestination:${queue}\n\ninjected\0`

/** A row as SQL can write it; headers are JSON text. */
interface Row {
  readonly event?: string
  readonly destination?: string
  readonly key?: string
  readonly version?: string
  readonly contentType?: string
  readonly operation?: string
  readonly headers?: string
}

const one = (name: string, value: unknown) => JSON.stringify({ [name]: value })

/** What arrives, by broker: `true` as written, a pattern for the reason that it is dead of. */
interface Case {
  readonly name: string
  readonly row: (victim: string) => Row
  readonly rabbitmq: true | RegExp
  readonly activemq: true | RegExp
}

const nul = /NUL/
const half = /half of a surrogate pair/
const long = /over 1048576 bytes/
const line = /over 10240 bytes/
const everywhere = (name: string, row: Case["row"], fate: true | RegExp = true): Case => ({
  name,
  row,
  rabbitmq: fate,
  activemq: fate,
})

const odd = "a:b\\c\\n\r\nd\u2028e\u0085f é漢😀\u0001\u007f"
const cases: ReadonlyArray<Case> = [
  everywhere("a key of everything", () => ({ key: odd })),
  everywhere("a key that is a frame", (victim) => ({ key: frame(victim).replaceAll("\0", "") })),
  everywhere("an event of everything", () => ({ event: odd })),
  everywhere("an operation of everything", () => ({ operation: odd })),
  everywhere("a version that is a header", () => ({ version: "1\nreceipt:1\ndestination:/queue/x" })),
  everywhere("a content type that is a header", () => ({ contentType: "text/plain\ndestination:/queue/x" })),
  everywhere("a value of everything", () => ({ headers: one("odd", odd) })),
  everywhere("a name of everything", () => ({ headers: one(odd, "value") })),
  everywhere("a value that is a frame", (victim) => ({
    headers: one("odd", frame(victim).replaceAll("\0", "")),
  })),
  everywhere("a value with NUL, and a frame", (victim) => ({ headers: one("odd", frame(victim)) }), nul),
  everywhere("a name with NUL", () => ({ headers: one("o\0d", "x") }), nul),
  everywhere("half of a surrogate pair in a value", () => ({ headers: '{"odd":"\\ud800"}' }), half),
  everywhere("half of a surrogate pair in a name", () => ({ headers: '{"\\udc00":"odd"}' }), half),
  everywhere("a value that is no text", () => ({ headers: '{"n":5,"t":true,"z":null}' })),
  everywhere("a value that is an object with colons", () => ({ headers: '{"o":{"a":["x:y"]}}' })),
  everywhere("Object's own names", () => ({ headers: '{"__proto__":"p","constructor":"c","toString":"t"}' })),
  everywhere("other headers of the protocol", () => ({
    headers: '{"receipt":"1","content-length":"1","destination":"/queue/x","persistent":"false"}',
  })),
  {
    name: "a value of 9 KiB",
    row: () => ({ headers: one("long", "v".repeat(9 << 10)) }),
    rabbitmq: true,
    activemq: true,
  },
  {
    name: "a value of 100 KiB",
    row: () => ({ headers: one("long", "v".repeat(100 << 10)) }),
    rabbitmq: true,
    activemq: line,
  },
  {
    name: "a value of colons that doubles",
    row: () => ({ headers: one("long", ":".repeat(9 << 10)) }),
    rabbitmq: true,
    activemq: line,
  },
  {
    name: "a value of 10 MB",
    row: () => ({ headers: one("long", "v".repeat(10 * MEGA)) }),
    rabbitmq: long,
    activemq: line,
  },
  {
    name: "a name of 10 MB",
    row: () => ({ headers: one("n".repeat(10 * MEGA), "v") }),
    rabbitmq: long,
    activemq: line,
  },
  { name: "a key of 10 MB", row: () => ({ key: "k".repeat(10 * MEGA) }), rabbitmq: long, activemq: line },
  {
    name: "an event of 10 MB",
    row: () => ({ event: "e".repeat(10 * MEGA) }),
    rabbitmq: long,
    activemq: line,
  },
  {
    name: "a version of 10 MB",
    row: () => ({ version: "v".repeat(10 * MEGA) }),
    rabbitmq: long,
    activemq: line,
  },
  {
    name: "a content type of 10 MB",
    row: () => ({ contentType: "c".repeat(10 * MEGA) }),
    rabbitmq: long,
    activemq: line,
  },
  {
    name: "2,000 headers",
    row: () => ({
      headers: JSON.stringify(Object.fromEntries(Array.from({ length: 2_000 }, (_, n) => [`h${n}`, "x"]))),
    }),
    rabbitmq: true,
    activemq: /more than 990 headers/,
  },
]

/** Destinations that no broker takes: theirs is the trouble, and the others' never. */
const destinations = [
  "no slash\\at all:",
  "/queue/",
  "/nope/\u2028é:x",
  `/queue/${"q".repeat(300)}`,
  `/nope/${"d".repeat(10 * MEGA)}`,
  "/exchange/none/\\n:",
]

describe.each([
  ["rabbitmq", () => inject("rabbitmq").stompUrl],
  ["activemq", () => inject("activemq").stompUrl],
] as const)("on %s", (broker, url) => {
  it("every row arrives as written, or is dead with its reason", async () => {
    const database = await createDatabase()
    cleanups.push(database.drop)
    const { sql } = database
    const tag = randomBytes(4).toString("hex")
    const [topic, victim] = [`/topic/frames-${tag}`, `/queue/victim-${tag}`]
    const client = await rawStomp(url())
    cleanups.push(async () => client.close())
    const arrived = new Map<string, RawFrame>()
    await client.subscribe(topic, (message, ack) => {
      arrived.set(message.headers["outbox-message-id"] ?? `nameless ${arrived.size}`, message)
      ack()
    })
    const injected: RawFrame[] = []
    await client.subscribe(victim, (message) => injected.push(message))

    const insert = async (row: Row): Promise<string> => {
      const [{ id }] = await sql<[{ id: string }]>`
        INSERT INTO outbox.messages (event, operation, destination, key, version, content_type, headers, body)
        VALUES (${row.event ?? "e"}, ${row.operation ?? "emit"}, ${row.destination ?? topic}, ${row.key ?? null},
                ${row.version ?? null}, ${row.contentType ?? "text/plain"}, ${row.headers ?? "{}"}::text::json, 'body')
        RETURNING id`
      return id
    }
    const bad: string[] = []
    for (const destination of destinations) bad.push(await insert({ destination }))
    const written: Array<{
      readonly id: string
      readonly row: Row
      readonly fate: true | RegExp
      readonly name: string
    }> = []
    const good: string[] = []
    for (const { name, row, ...fates } of cases) {
      const given = row(victim)
      written.push({ name, id: await insert(given), row: given, fate: fates[broker] })
      good.push(await insert({}))
    }

    await Effect.runPromise(
      Effect.scoped(
        Effect.gen(function* () {
          yield* startRelay(relayLayer(database.url, layerStomp({ url: url() })), {
            pollInterval: "50 millis",
          })
          yield* Effect.promise(() =>
            eventually(async () => {
              const [row] = await sql`
                SELECT count(*)::int AS n FROM outbox.messages
                WHERE published_at IS NULL AND dead_at IS NULL AND id <> ALL(${bad}::uuid[])`
              assert.strictEqual(row?.["n"], 0)
              assert.isTrue(good.every((id) => arrived.has(id)))
            }, 45),
          )
        }),
      ),
    )
    assert.strictEqual(injected.length, 0, "another frame was taken out of one of ours")

    const rows =
      await sql`SELECT id, created_at, published_at IS NOT NULL AS published, last_error FROM outbox.messages`
    const rowOf = new Map(rows.map((row) => [row["id"] as string, row]))
    for (const { id, row, fate, name } of written) {
      const seen = rowOf.get(id)
      if (fate !== true) {
        assert.match(String(seen?.["last_error"]).slice(0, 300), fate, name)
        assert.isFalse(arrived.has(id), name)
        continue
      }
      assert.isTrue(seen?.["published"], `${name}: ${seen?.["last_error"]}`)
      const { headers, body } = await eventually(() => {
        const message = arrived.get(id)
        if (message === undefined) throw new Error(`${name} did not arrive`)
        return message
      })
      const found = new Map(Object.entries(headers))
      const same = (header: string, value: string | undefined) => {
        // Not by an assertion on both: to show how megabytes differ takes hours.
        if (found.get(header) !== value)
          assert.fail(
            `${name}: ${header.slice(0, 50)} is ${JSON.stringify(found.get(header)?.slice(0, 100))}`,
          )
      }
      assert.strictEqual(body.toString(), "body", name)
      same("outbox-key", row.key)
      same("outbox-event", row.event ?? "e")
      same("outbox-operation", row.operation ?? "emit")
      same("outbox-version", row.version)
      same("content-type", row.contentType ?? "text/plain")
      for (const [header, value] of Object.entries(JSON.parse(row.headers ?? "{}"))) {
        if (["receipt", "content-length", "destination", "persistent"].includes(header)) continue
        same(header, typeof value === "string" ? value : JSON.stringify(value))
      }
    }
    assert.lengthOf(
      [...arrived.keys()].filter((id) => !rowOf.has(id)),
      0,
    )
  }, 120_000)
})

describe("what is refused before it is written", () => {
  const body = { destination: "/topic/a", serializer: (text: string) => text }
  const rotten = ["\r", "\n", "\0", "\ud800", "a\nb", "x\0"]

  it.each(rotten)("anywhere in a definition (%j)", (bad) => {
    for (const define of [
      () => defineOutbox({ [bad]: body }),
      () => defineOutbox({ e: { ...body, destination: `/topic/${bad}` } }),
      () => defineOutbox({ e: { ...body, version: bad } }),
      () => defineOutbox({ e: { ...body, contentType: `text/${bad}` } }),
      () => defineOutbox({ e: { ...body, headers: { [bad]: "v" } } }),
      () => defineOutbox({ e: { ...body, headers: { n: bad } } }),
    ])
      assert.throws(define, /contains|no header can carry/)
  })
})
