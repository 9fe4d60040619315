/** The STOMP layer on a real ActiveMQ Classic of its own. */
import { randomUUID } from "node:crypto"
import { Effect } from "effect"
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest"
import type { Incoming, Subscription } from "../../src/broker/broker.ts"
import { layerStomp, type StompOptions } from "../../src/broker/stomp/stomp.ts"
import { brokerSuite, connector, eventually, outgoing, settled } from "../suites/broker.ts"
import { lingerSuite } from "../suites/linger.ts"
import { type ActiveMq, startActiveMq } from "../support/activemq.ts"
import { rawStomp } from "../support/stomp-client.ts"

let broker: ActiveMq
const LIMIT = 2 * 1024 * 1024

beforeAll(async () => {
  broker = await startActiveMq({ config: [`wireFormat.maxFrameSize=${LIMIT}`] })
}, 120_000)
afterAll(() => broker?.remove())

const refusals = [
  {
    scope: "message",
    message: { headers: { transaction: "none" } },
    words: /belongs to STOMP/,
    closes: false,
  },
  { scope: "message", message: { headers: { priority: "high" } }, words: /priority/, closes: false },
  { scope: "message", message: { headers: { expires: "soon" } }, words: /expires/, closes: false },
  {
    scope: "message",
    message: { headers: { big: "x".repeat(11_000) } },
    words: /big is over/,
    closes: false,
  },
  { scope: "message", message: { headers: { nul: "a\0b" } }, words: /NUL/, closes: false },
  { scope: "destination", message: { destination: "/queue/" }, words: /names no destination/, closes: false },
  {
    scope: "message",
    message: { body: "x".repeat(LIMIT + 1) },
    words: /^The maximum frame size was exceeded$/,
    closes: true,
    resets: true,
  },
] as const

brokerSuite("STOMP to ActiveMQ Classic", {
  layer: () => layerStomp({ url: broker.stompUrl }),
  features: { refusals, namesBeforeClosing: true, namedQueues: true, nackRequeues: false, forgetLooks: true },
})

const opened: Array<() => Promise<void>> = []
afterEach(async () => {
  for (const close of opened.splice(0)) await close()
})
const open = async (options: Partial<StompOptions> = {}, subscription?: Subscription) => {
  const { open, closeAll } = connector(layerStomp({ url: broker.stompUrl, ...options }))
  opened.push(closeAll)
  return open(subscription)
}

const texts = (received: ReadonlyArray<Incoming>) => received.map(({ body }) => Buffer.from(body).toString())

describe("what arrives", () => {
  it("is persistent, as a client of nobody's sees it", async () => {
    const destination = `/queue/seen-${randomUUID()}`
    const { connection } = await open()
    const message = outgoing({ destination, headers: { "outbox-key": "a:b" }, body: '{"id":1}' })
    await settled(connection, [message])
    const raw = await rawStomp(broker.stompUrl)
    await raw.subscribe(destination, (_, ack) => ack())
    await eventually(() => expect(raw.frames.filter(({ command }) => command === "MESSAGE")).toHaveLength(1))
    const arrived = raw.frames.find(({ command }) => command === "MESSAGE")
    expect(arrived?.headers).toMatchObject({ destination, persistent: "true", "outbox-key": "a:b" })
    expect(arrived?.body.toString()).toBe('{"id":1}')
    raw.close()
  })

  it("is no frame out of a header that is too long", async () => {
    const [destination, elsewhere] = [`/queue/long-${randomUUID()}`, `/queue/injected-${randomUUID()}`]
    const { connection } = await open()
    const message = outgoing({
      destination,
      headers: { long: "ů".repeat(5 * 1024) },
      body: `\n\0SEND\ndestination:${elsewhere}\n\nboo\0`,
    })
    const [refused, taken] = await settled(connection, [message, outgoing({ destination, body: "fine" })])
    expect(refused).toMatchObject({ _tag: "Refused", scope: "message" })
    expect(taken).toEqual({ _tag: "Confirmed" })
    const { subscribe } = await open()
    const { received } = await subscribe({ destination: elsewhere })
    await new Promise((resolve) => setTimeout(resolve, 200))
    expect(received).toHaveLength(0)
  })
})

describe("a durable subscription", () => {
  const make = (): Subscription => ({
    destination: `/topic/durable-${randomUUID()}`,
    queue: `billing.${randomUUID()}`,
    exclusive: true,
  })

  it("is one connection's at a time: the next hears `taken`, and gets it once the first has gone", async () => {
    const subscription = make()
    const first = await open({}, subscription)
    const { received } = await first.subscribe(subscription)
    await expect(open({}, subscription)).rejects.toMatchObject({ reason: "taken", isRetryable: true })
    await settled((await open()).connection, [
      outgoing({ destination: subscription.destination, body: "one" }),
      outgoing({ destination: subscription.destination, body: "two" }),
    ])
    await eventually(() => expect(texts(received)).toEqual(["one", "two"]))
    received[1]?.ack()
    await new Promise((resolve) => setTimeout(resolve, 100))
    first.connection.destroy()
    await eventually(async () => {
      const second = await open({}, subscription)
      const again = await second.subscribe(subscription)
      await eventually(() => expect(texts(again.received)).toEqual(["one"]))
    })
  })

  it("needs a connection made for it", async () => {
    const subscription = make()
    const { subscribe, connection } = await open()
    await expect(subscribe(subscription)).rejects.toMatchObject({
      message: expect.stringContaining("connect("),
    })
    await expect(Effect.runPromise(connection.forget(subscription))).rejects.toMatchObject({
      reason: "subscription",
    })
  })

  it("that does not exist is not forgotten", async () => {
    const subscription = make()
    const { connection } = await open({}, subscription)
    await expect(Effect.runPromise(connection.forget(subscription))).rejects.toMatchObject({
      message: expect.stringContaining("No durable subscription exists"),
    })
  })
})

describe("a virtual topic", () => {
  it("has a queue a name, which instances share or elect for, and which outlives them", async () => {
    const subscription: Subscription = {
      destination: `/topic/VirtualTopic.orders-${randomUUID()}.v2`,
      queue: "billing.orders",
      prefetch: 1,
    }
    const one = await (await open({}, subscription)).subscribe(subscription, (message) => message.ack())
    const two = await (await open({}, subscription)).subscribe(subscription, (message) => message.ack())
    const other = { ...subscription, queue: "shipping" }
    const third = await open({}, other)
    await (await third.subscribe(other)).close()
    await third.close()
    const { connection } = await open()
    const batch = Array.from({ length: 20 }, (_, n) =>
      outgoing({ destination: subscription.destination, body: String(n) }),
    )
    await settled(connection, batch)
    await eventually(() => expect(one.received.length + two.received.length).toBe(20))
    expect(Math.min(one.received.length, two.received.length)).toBeGreaterThan(0)
    expect(one.received[0]?.destination).toBe(subscription.destination)
    const late = await (await open({}, other)).subscribe(other, (message) => message.ack())
    await eventually(() => expect(late.received).toHaveLength(20))
    await expect(Effect.runPromise(connection.forget(subscription))).rejects.toMatchObject({
      message: expect.stringContaining("by its own tools only"),
    })
  })
})

it("a nack is for the dead letter queue of the broker", async () => {
  const destination = `/queue/dead-${randomUUID()}`
  const { connection, subscribe } = await open()
  await subscribe({ destination }, (message) => message.nack())
  const { received } = await subscribe({ destination: "/queue/ActiveMQ.DLQ" }, (message) => message.ack())
  await settled(connection, [outgoing({ destination, body: "dead" })])
  await eventually(() => expect(texts(received)).toContain("dead"))
})

lingerSuite("ActiveMQ Classic", { url: () => broker.stompUrl, heartbeats: [1000, 3000] })

// These take the broker away, so they come last.
describe("a broker in trouble", () => {
  it.each(["stop", "kill"] as const)("takes %s for an outage, and keeps what it confirmed", async (how) => {
    const { connection } = await open()
    const destination = `/queue/kept-${randomUUID()}`
    await settled(connection, [outgoing({ destination, body: "kept" })])
    await broker[how]()
    expect((await Effect.runPromise(connection.ended)).reason).toBe("outage")
    await expect(open()).rejects.toMatchObject({ reason: "unreachable", isRetryable: true })
    await broker.start()
    const { subscribe } = await open()
    const { received } = await subscribe({ destination }, (message) => message.ack())
    await eventually(() => expect(texts(received)).toEqual(["kept"]))
  })
})
