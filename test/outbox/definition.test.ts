import { integer, pgTable, text } from "drizzle-orm/pg-core"
import { expect, it } from "vitest"
import { defineOutbox, OutboxError } from "../../src/index.ts"

const table = pgTable("t", { id: integer().primaryKey(), name: text() })
const keyless = pgTable("keyless", { name: text() })
const serializer = () => 1

const bad: readonly (readonly [string, unknown])[] = [
  ["is empty", { table, destination: "" }],
  ["is empty", { table, destination: ["/q", ""] }],
  ["list of destinations is empty", { table, destination: [] }],
  ["is no text", { table }],
  ["CR, LF or NUL", { table, destination: "/q\r" }],
  ["CR, LF or NUL", { table, destination: "/q\n" }],
  ["CR, LF or NUL", { table, destination: "/q\0" }],
  ["the version contains CR, LF or NUL", { table, destination: "/q", version: "1\n" }],
  ["the version is no text", { table, destination: "/q", version: "" }],
  ["content type", { table, destination: "/q", contentType: "a\n", serializer }],
  ["needs a serializer", { table, destination: "/q", contentType: "text/plain" }],
  ["not from both", { table, destination: "/q", serializer, fields: ["id"] }],
  ["no function", { table, destination: "/q", serializer: 1 }],
  ["cannot go with", { table, destination: "/q", serializer, contentType: "a/b", schema: {} }],
  ["`fields` is empty", { table, destination: "/q", fields: [] }],
  ['no column "toString"', { table, destination: "/q", fields: ["toString"] }],
  ["without `table`", { destination: "/q" }],
  ["without `table`", { destination: "/q", fields: ["id"] }],
  ["no Drizzle table", { table: {}, destination: "/q" }],
  ["no primary key", { table: keyless, destination: "/q" }],
  ['`key` names "nam", which is no property', { table, destination: "/q", key: "nam" }],
  ['`key` names "toString"', { table, destination: "/q", key: "toString" }],
  ["a `key` that names a property needs `table`", { destination: "/q", serializer, key: "name" }],
  ["by which `old` pairs", { table: keyless, destination: "/q", key: null, old: true }],
  ["`operations` is empty", { table, destination: "/q", operations: [] }],
  ['no operation "insrt"', { table, destination: "/q", operations: ["insrt"] }],
  ['no option "serialiser"', { table, destination: "/q", serialiser: serializer }],
  ['no option "key"', { table, publish: [{ destination: "/q", key: null }] }],
  ["`publish` is empty", { table, publish: [] }],
  ["belongs into its entries", { table, publish: [{ destination: "/q" }], version: "1" }],
  ["not both", { table, destination: "/q", delay: 1, availableAt: () => null }],
  ["`delay` is no finite duration", { table, destination: "/q", delay: "soon" }],
  ["`timeToLive` is no finite duration", { table, destination: "/q", timeToLive: "Infinity" }],
  ["is empty", { table, destination: "/q", headers: { "": "a" } }],
  ["CR, LF or NUL", { table, destination: "/q", headers: { a: "b\r" } }],
  ["CR, LF or NUL", { table, destination: "/q", headers: { "a\n": "b" } }],
  ...[
    ...[
      "outbox-key",
      "OUTBOX-x",
      "dop-msg-id",
      "amqp-message-id",
      "_AMQ_DUPL_ID",
      "traceparent",
      "destination",
    ],
    ...["receipt", "content-length", "Content-Type", "message-id", "transaction", "persistent"],
  ].map((name) => [`"${name}" is reserved`, { table, destination: "/q", headers: { [name]: "a" } }] as const),
]

it.each(bad)("refuses, naming the event: %s", (words, event) => {
  let caught: unknown
  try {
    defineOutbox({ 'my "event"': event } as never)
  } catch (error) {
    caught = error
  }
  expect(caught).toBeInstanceOf(OutboxError)
  expect(caught).toMatchObject({ reason: "definition", event: 'my "event"' })
  expect((caught as OutboxError).message).toMatch(/^event "my \\"event\\"": /)
  expect((caught as OutboxError).message).toContain(words)
})

it.each(["", "a\nb"])("refuses the event name %j", (name) => {
  expect(() => defineOutbox({ [name]: { table, destination: "/q" } } as never)).toThrow(OutboxError)
})

it("refuses settings that are none", () => {
  const events = { e: { table, destination: "/q" } }
  expect(() => defineOutbox(events, { maxRows: 0 })).toThrow(/maxRows/)
  expect(() => defineOutbox(events, { maxBodyBytes: 1.5 })).toThrow(/maxBodyBytes/)
  expect(() => defineOutbox(events, { schema: "" })).toThrow()
})

it("takes a table without a primary key when the key is given", () => {
  expect(() => defineOutbox({ a: { table: keyless, destination: "/q", key: null } })).not.toThrow()
  expect(() => defineOutbox({ a: { table: keyless, destination: "/q", key: (k) => k.name } })).not.toThrow()
  expect(() => defineOutbox({ a: { table: keyless, destination: "/q", key: "name" } })).not.toThrow()
})
