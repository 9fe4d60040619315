/** What a consumer may be told, and what its messages are called by. */

import { integer, pgTable, text } from "drizzle-orm/pg-core"
import { Schema } from "effect"
import { describe, expect, it } from "vitest"
import { decoder } from "../../src/consumer/decode.ts"
import { anonymous, causationOf, identify } from "../../src/consumer/identity.ts"
import { ConsumerError, consume } from "../../src/consumer/index.ts"
import { type ConsumerOptions, settingsOf } from "../../src/consumer/options.ts"
import { defineOutbox } from "../../src/index.ts"

const orders = pgTable("orders", { id: integer().primaryKey(), note: text() })
const { events } = defineOutbox({
  orders: {
    table: orders,
    publish: [
      { destination: "/topic/orders", version: "v1" },
      { destination: "/topic/orders", version: "v2" },
    ],
  },
  routed: { table: orders, destination: ({ id }) => `/topic/${id}` },
})
const handler = async () => {}

it("is handed eight batches by default, and 100 deliveries at least", () => {
  const prefetch = (options: Parameters<typeof settingsOf>[0]) => settingsOf(options, "/queue/a").prefetch
  expect(prefetch({ consumer: "c" })).toBe(100)
  expect(prefetch({ consumer: "c", batch: {} })).toBe(800)
  expect(prefetch({ consumer: "c", batch: { size: 5 } })).toBe(100)
  expect(prefetch({ consumer: "c", batch: { size: 50 }, prefetch: 60 })).toBe(60)
})

describe("a definition that cannot work is refused at once", () => {
  it.each<[string, () => unknown, RegExp]>([
    ["no name", () => consume("/queue/a", { consumer: " " }, handler), /needs a name/],
    [
      "a name over two lines",
      () => consume("/queue/a", { consumer: "a\nb" }, handler),
      /the consumer's name contains CR/,
    ],
    ["no destination", () => consume("", { consumer: "a" }, handler), /needs a destination/],
    [
      "several destinations",
      () => consume(events.orders, { consumer: "a" }, handler),
      /\/topic\/orders\.v1, \/topic\/orders\.v2: choose one/,
    ],
    [
      "computed destinations",
      () => consume(events.routed, { consumer: "a" }, handler),
      /are computed: give `destination`/,
    ],
    [
      "a strange option",
      () => consume("/queue/a", { consumer: "a", retries: 3 } as ConsumerOptions, handler),
      /there is no option "retries"/,
    ],
    [
      "no handlers at a time",
      () => consume("/queue/a", { consumer: "a", parallel: 0 }, handler),
      /`parallel` is a whole number from 1 on/,
    ],
    [
      "a time that is none",
      () => consume("/queue/a", { consumer: "a", timeout: "soon" as never }, handler),
      /`timeout` is no finite duration/,
    ],
    [
      "a strange order",
      () => consume("/queue/a", { consumer: "a", order: "id" as never }, handler),
      /`order` is "key" or "none"/,
    ],
    [
      "a batch without consumeBatch",
      () => consume("/queue/a", { consumer: "a", batch: { size: 10 } } as ConsumerOptions, handler),
      /`batch` is an option of consumeBatch alone/,
    ],
    [
      "an event's name for its destination",
      () => consume("orders", { consumer: "a" }, handler),
      /"orders" is no destination: it starts with a slash/,
    ],
    [
      "no source",
      () => consume(undefined as never, { consumer: "a" }, handler),
      /an event of defineOutbox \(`events.orders`\) or a destination, and got neither/,
    ],
    ["no function", () => consume("/queue/a", { consumer: "a" }, undefined as never), /it is no function/],
  ])("%s", (_, define, words) => {
    expect(define).toThrow(ConsumerError)
    expect(define).toThrow(words)
  })
})

describe("a queue's name", () => {
  it.each([
    ["/topic/orders.v2", undefined, "billing.orders.v2"],
    ["/exchange/shop/orders.#", undefined, "billing.orders.#"],
    ["/queue/orders", undefined, "orders"],
    ["/amq/queue/orders", undefined, "orders"],
    ["/topic/orders", "mine", "mine"],
  ])("of %s is, with %s, %s", (destination, queue, name) => {
    expect(settingsOf({ consumer: "billing", ...(queue && { queue }) }, destination).queue).toBe(name)
  })
})

describe("identity", () => {
  const incoming = (headers: Record<string, string>, body = "x") => ({
    destination: "/queue/a",
    headers,
    body: new TextEncoder().encode(body),
    redelivered: false,
    ack: () => {},
    nack: () => {},
  })
  const of = (headers: Record<string, string>, options: Partial<ConsumerOptions> = {}) =>
    identify(incoming(headers), settingsOf({ consumer: "c", ...options }, "/queue/a"))

  it("is the first of the known headers, never the broker's own id of a delivery", () => {
    const all = {
      "message-id": "T_1@@s@@1",
      "amqp-message-id": "5",
      cloudEvents_id: "4",
      "dop-msg-id": "3",
      "cap-msg-id": "2",
      "outbox-message-id": "1",
    }
    const ids: string[] = []
    const left: Record<string, string> = { ...all }
    for (const name of Object.keys(all).toReversed()) {
      ids.push(of(left).arrival.messageId)
      delete left[name]
    }
    expect(ids.slice(0, 5)).toEqual(["1", "2", "3", "4", "5"])
    expect(of({ "message-id": "T_1@@s@@1" })).toMatchObject({
      nameless: true,
      arrival: { messageId: expect.stringMatching(/^sha256:/) },
    })
  })

  it("may be the user's, from a header or a function", () => {
    expect(of({ "x-id": "9" }, { identity: "x-id" })).toMatchObject({
      nameless: false,
      arrival: { messageId: "9" },
    })
    expect(of({}, { identity: ({ body }) => Buffer.from(body).toString() }).arrival.messageId).toBe("x")
    expect(of({ "x-id": "" }, { identity: "x-id" }).nameless).toBe(true)
  })

  it("is hashed where it is too long to be recorded", () => {
    expect(of({ "outbox-message-id": "y".repeat(300) }).arrival.messageId).toMatch(/^sha256:[0-9a-f]{64}$/)
    expect(anonymous(incoming({ "outbox-message-id": "y".repeat(300) })).messageId).toMatch(
      /^sha256:[0-9a-f]{64}$/,
    )
  })

  it("a key is hashed where it is too long for the database's index", () => {
    expect(of({ "outbox-key": "k".repeat(1000) }).arrival.key).toBe("k".repeat(1000))
    expect(of({ "outbox-key": "k".repeat(1001) }).arrival.key).toMatch(/^sha256:[0-9a-f]{64}$/)
  })

  it("a key is ours, or what the consumer says, or none; headers of the delivery are no headers of the message", () => {
    expect(
      of({ "outbox-message-id": "1", "outbox-key": "", ack: "1", subscription: "s" }).arrival,
    ).toMatchObject({ key: "", headers: { "outbox-key": "" } })
    expect(of({ "outbox-message-id": "1", customer: "7" }, { key: "customer" }).arrival.key).toBe("7")
    expect(of({ "outbox-message-id": "1" }).arrival.key).toBeNull()
    expect(
      Object.keys(
        of({ "outbox-message-id": "1", ack: "1", subscription: "s", "message-id": "m" }).arrival.headers,
      ),
    ).toEqual(["outbox-message-id"])
    const strange = JSON.parse('{"outbox-message-id": "1", "__proto__": "p", "toString": "t"}') as Record<
      string,
      string
    >
    expect(Object.entries(of(strange).arrival.headers)).toEqual(Object.entries(strange))
  })

  it("begins a conversation where the message belongs to none", () => {
    expect(causationOf(of({ "outbox-message-id": "1" }).arrival)).toEqual({
      correlationId: "1",
      causationId: "1",
      traceparent: undefined,
    })
    expect(
      causationOf(of({ "dop-msg-id": "1", "dop-correlation-id": "c", traceparent: "00-1" }).arrival),
    ).toEqual({ correlationId: "c", causationId: "1", traceparent: "00-1" })
  })
})

describe("a body", () => {
  const read = (body: string | Uint8Array, type?: string, schema?: Parameters<typeof decoder>[0]) =>
    decoder(schema)(
      typeof body === "string" ? new TextEncoder().encode(body) : body,
      type === undefined ? {} : { "content-type": type },
    )

  it("is read by its content type", () => {
    expect(read('{"a":1}', "application/json")).toEqual({ a: 1 })
    expect(read('{"a":1}', "application/cloudevents+json; charset=utf-8")).toEqual({ a: 1 })
    expect(read("hello", "text/plain;charset=utf-8")).toBe("hello")
    expect(read('{"a":1}')).toEqual({ a: 1 })
    expect(read("hello")).toBe("hello")
    expect(read(new Uint8Array([0xff]), "application/octet-stream")).toEqual(new Uint8Array([0xff]))
    expect(() => read("hello", "application/json")).toThrow(/the body is no JSON/)
  })

  it("is decoded by a schema, or refused with its words", () => {
    const schema = Schema.Struct({ at: Schema.Date })
    expect(read('{"at":"2026-11-23T00:00:00.000Z"}', "application/json", schema)).toEqual({
      at: new Date("2026-11-23"),
    })
    expect(() => read('{"at":1}', "application/json", schema)).toThrow(/the schema does not accept the body/)
  })
})
