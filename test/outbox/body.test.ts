/** Bodies arrive as they were serialised, whatever is in them. */
import { Schema } from "effect"
import { expect, it } from "vitest"
import { defineOutbox } from "../../src/index.ts"
import { jsonText } from "../../src/outbox/json.ts"
import { items, useDatabase } from "./database.ts"

const test = useDatabase()

const written = async (event: object) => {
  const { withOutbox } = defineOutbox({
    items: { table: items, destination: "/q", ...event },
  } as never) as unknown as {
    withOutbox: (...args: unknown[]) => Promise<unknown>
  }
  await test.db.transaction((tx) => withOutbox(tx, items, { id: 1, name: "a" }))
  const [message] = await test.messages()
  return message
}

let nested: unknown = "x"
for (let i = 0; i < 1000; i++) nested = i % 2 ? [nested] : { n: nested }

const values: Record<string, unknown> = {
  "NUL and control characters": "a\0b\u0001\u001f\u007f",
  "lone surrogates": ["\ud800", "\udc00x"],
  "emoji and separators": "😀\u2028\u2029\ufeff",
  "quotes and backslashes": "\\u0000 \\ \" ' $1 {x}",
  "__proto__ and its like": JSON.parse('{"__proto__":{"a":1},"constructor":2,"toString":null,"":3}'),
  "1,000 levels": nested,
  numbers: [0, -0, 1e21, 5e-324, 1.7976931348623157e308, 2 ** 53],
  "undefined members": { a: undefined, b: [undefined, null], c: 1 },
  toJSON: { url: new URL("http://a/"), boxed: [Object("s"), Object(1)] },
}

it.each(Object.keys(values))("JSON of %s", async (name) => {
  const message = await written({ serializer: () => values[name] })
  expect(message?.body).toBe(JSON.stringify(values[name]))
  expect(message?.bodyBytes).toBeNull()
})

it("JSON of dates, bigints and bytes is text", () => {
  expect(
    jsonText({ d: new Date(0), b: 2n ** 70n, u: new Uint8Array([255, 0]), f: Buffer.from("é").subarray(1) }),
  ).toBe('{"d":"1970-01-01T00:00:00.000Z","b":"1180591620717411303424","u":"/wA=","f":"qQ=="}')
})

it("a text of the user's own goes as text, or as bytes where PostgreSQL's text cannot hold it", async () => {
  const event = (body: unknown) => ({ contentType: "text/plain; charset=utf-8", serializer: () => body })
  expect(await written(event("é 😀\r\n{"))).toMatchObject({
    contentType: "text/plain; charset=utf-8",
    body: "é 😀\r\n{",
    bodyBytes: null,
  })
  await test.sql`TRUNCATE items, outbox.messages`
  const zero = await written(event("a\0é"))
  expect([zero?.body, Buffer.from(zero?.bodyBytes ?? []).toString()]).toEqual([null, "a\0é"])
  await test.sql`TRUNCATE items, outbox.messages`
  const bytes = new Uint8Array(300).map((_, n) => n)
  const message = await written(event(bytes.subarray(1)))
  expect([message?.body, Buffer.from(message?.bodyBytes ?? [])]).toEqual([
    null,
    Buffer.from(bytes.subarray(1)),
  ])
  await test.sql`TRUNCATE items, outbox.messages`
  expect(await written(event(""))).toMatchObject({ body: "", bodyBytes: null })
})

it("an Effect Schema encodes the row itself, or the fields of it", async () => {
  const schema = Schema.Struct({ id: Schema.Int, name: Schema.String })
  expect((await written({ schema }))?.body).toBe('{"id":1,"name":"a"}')
  await test.sql`TRUNCATE items, outbox.messages`
  expect((await written({ schema: Schema.Struct({ name: Schema.String }), fields: ["name"] }))?.body).toBe(
    '{"name":"a"}',
  )
})

it("many at once arrive like one", async () => {
  const all = Object.values(values)
  const raw = ['{"a",NULL,\\', "a\0é", new Uint8Array([0, 255]), "", "NULL", "é\r\n\t"]
  const { withOutbox } = defineOutbox({
    json: { table: items, destination: "/j", serializer: (i) => all[i.id % all.length] },
    raw: {
      table: items,
      destination: ["/r", "/s"],
      key: (i) => (i.id % 2 === 0 ? null : `k"\\${i.id}`),
      contentType: "text/plain",
      serializer: (i) => raw[i.id % raw.length] ?? "",
    },
  })
  const rows = Array.from({ length: 24 }, (_, id) => ({ id, name: "a" }))
  await test.db.transaction((tx) => withOutbox(tx, items, rows))
  const messages = await test.messages()
  const bytesOf = (body: string | Uint8Array) =>
    typeof body !== "string" || body.includes("\0") ? Buffer.from(body as string).toString("hex") : undefined
  expect(
    messages.map((m) => [
      m.destination,
      m.key,
      m.body,
      m.bodyBytes && Buffer.from(m.bodyBytes).toString("hex"),
    ]),
  ).toEqual(
    rows.flatMap(({ id }) => {
      const body = raw[id % raw.length] ?? ""
      const bytes = bytesOf(body)
      const key = id % 2 === 0 ? null : `k"\\${id}`
      const text = bytes === undefined ? body : null
      return [
        ["/j", `${id}`, JSON.stringify(all[id % all.length]), null],
        ["/r", key, text, bytes ?? null],
        ["/s", key, text, bytes ?? null],
      ]
    }),
  )
  const events = messages.map((m) => m.eventId)
  expect(new Set(events).size).toBe(48)
  for (let row = 0; row < 24; row++) expect(events[3 * row + 1]).toBe(events[3 * row + 2])
})
