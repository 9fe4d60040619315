/** The STOMP layer on a real RabbitMQ of its own. */
import { execFileSync } from "node:child_process"
import { randomUUID } from "node:crypto"
import { mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Effect, Redacted } from "effect"
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest"
import type { Incoming, Outgoing, Subscription } from "../../src/broker/broker.ts"
import { publish } from "../../src/broker/publish.ts"
import { layerStomp, type StompOptions } from "../../src/broker/stomp/stomp.ts"
import { brokerSuite, connector, eventually, outgoing, settled } from "../suites/broker.ts"
import { lingerSuite } from "../suites/linger.ts"
import { startProxy } from "../support/proxy.ts"
import { type Rabbit, startRabbit } from "../support/rabbitmq.ts"
import { rawStomp } from "../support/stomp-client.ts"

let rabbit: Rabbit
const LIMIT = 2 * 1024 * 1024

beforeAll(async () => {
  rabbit = await startRabbit({ config: [`max_message_size = ${LIMIT}`] })
  await rabbit.ctl("add_user", "limited", "limited")
  await rabbit.ctl("set_permissions", "limited", "^ok.*", "^(amq\\.default|ok.*)$", "^ok.*")
}, 120_000)
afterAll(() => rabbit?.remove())

const refusals = [
  {
    scope: "destination",
    message: { destination: "/nope/x" },
    words: /^Unknown destination: '\/nope\/x' is not a valid destination\./,
    closes: false,
  },
  {
    scope: "destination",
    message: { destination: "/exchange/missing/key" },
    words: /^NOT_FOUND - no exchange 'missing' in vhost '\/'$/,
    closes: true,
  },
  {
    scope: "message",
    message: { headers: { "message-id": "mine" } },
    words: /^Invalid header: 'message-id' is not allowed on 'SEND'\.$/,
    closes: false,
  },
  {
    scope: "message",
    message: { headers: { transaction: "none" } },
    words: /^Bad transaction: Invalid transaction identifier: "none"$/,
    closes: false,
  },
  {
    scope: "message",
    message: { body: "x".repeat(LIMIT + 1) },
    words: /^PRECONDITION_FAILED - message size 2097153 is larger than configured max size 2097152$/,
    closes: true,
  },
  {
    scope: "message",
    message: { headers: { expiration: "soon" } },
    words: /^PRECONDITION_FAILED - invalid expiration 'soon'/,
    closes: true,
  },
  { scope: "message", message: { headers: { nul: "a\0b" } }, words: /NUL/, closes: false },
  // Over these it answers with an ERROR that names nobody, and takes what comes behind.
  ...(
    [
      ["priority", "high"],
      ["timestamp", "today"],
      ["x-max-length", "5.5"],
      ["reply-to", "/queue/a/b"],
      ["durable", "yes"],
    ] as const
  ).map(
    ([name, value]) =>
      ({
        scope: "message",
        message: { destination: "/queue/ok", headers: { [name]: value } },
        words: new RegExp(`^the header ${name} of RabbitMQ is .*, not "${value}"$`),
        closes: false,
      }) as const,
  ),
] as const

for (const [name, url] of [
  ["STOMP over TCP to RabbitMQ", () => rabbit.stompUrl],
  ["STOMP over WebSocket to RabbitMQ", () => rabbit.wsUrl],
] as const) {
  brokerSuite(name, {
    layer: () => layerStomp({ url: url() }),
    features: {
      refusals,
      namesBeforeClosing: name.includes("TCP"),
      namedQueues: true,
      nackRequeues: true,
      forgetLooks: false,
    },
  })
}

const opened: Array<() => Promise<void>> = []
afterEach(async () => {
  for (const close of opened.splice(0)) await close()
})
const open = async (options: Partial<StompOptions> = {}, subscription?: Subscription) => {
  const { open, closeAll } = connector(layerStomp({ url: rabbit.stompUrl, ...options }))
  opened.push(closeAll)
  return open(subscription)
}
const failure = (options: Partial<StompOptions>) =>
  open(options).then(
    () => expect.unreachable("connected"),
    (error) => error as { reason: string; message: string; isRetryable: boolean },
  )
const pipe = async (tls?: { cert: string; key: string }, url = rabbit.stompUrl) => {
  const proxy = await startProxy(
    Number(new URL(url.replace("stomp", "http")).port),
    tls === undefined ? {} : { tls },
  )
  opened.push(proxy.close)
  return proxy
}
const ofUser = (user: string) => rabbit.stompUrl.replace("guest:guest", `${user}:${user}`)
const kinds = (settlements: ReadonlyArray<{ readonly _tag: string }>) => settlements.map(({ _tag }) => _tag)

describe("what RabbitMQ refuses", () => {
  const words = async (message: Partial<Outgoing>, options?: Partial<StompOptions>) => {
    const { connection } = await open(options)
    const batch = [
      outgoing({ destination: "/queue/ok" }),
      outgoing(message),
      ...Array.from({ length: 20 }, () => outgoing({ destination: "/queue/ok" })),
    ]
    const [, refused, ...rest] = await settled(connection, batch)
    expect(kinds(rest)).toEqual(rest.map(() => "Lost"))
    return refused
  }

  it("a queue without the right to it", async () => {
    expect(await words({ destination: "/queue/secret" }, { url: ofUser("limited") })).toEqual({
      _tag: "Refused",
      scope: "destination",
      words: "ACCESS_REFUSED - access to queue 'secret' in vhost '/' refused for user 'limited'",
    })
  })

  it("a topic without the right to its exchange", async () => {
    expect(await words({ destination: "/topic/secret" }, { url: ofUser("limited") })).toEqual({
      _tag: "Refused",
      scope: "destination",
      words: "ACCESS_REFUSED - access to exchange 'amq.topic' in vhost '/' refused for user 'limited'",
    })
  })

  it("a queue that was declared otherwise", async () => {
    const raw = await rawStomp(rabbit.stompUrl)
    await raw.subscribe("/queue/declared", () => {}, { "x-dead-letter-exchange": "" })
    raw.close()
    expect(await words({ destination: "/queue/declared" })).toMatchObject({
      scope: "destination",
      words: expect.stringMatching(
        /^PRECONDITION_FAILED - inequivalent arg 'x-dead-letter-exchange' for queue 'declared'/,
      ),
    })
  })

  it("every message for the missing destination at once, and only those", async () => {
    const { connection } = await open()
    const destinations = ["/exchange/missing/a", "/queue/ok", "/exchange/missing/b", "/exchange/amq.topic/ok"]
    const outcomes = await settled(
      connection,
      destinations.map((destination) => outgoing({ destination })),
    )
    expect(kinds(outcomes).filter((kind) => kind === "Refused")).toHaveLength(2)
    expect(outcomes[0]).toMatchObject({ scope: "destination" })
    expect(outcomes[2]).toMatchObject({ scope: "destination" })
  })

  it("counts an attempt when an ERROR says nothing and one message was in flight", async () => {
    const { connection } = await open()
    const message = outgoing({ destination: "/queue/ok", headers: { "user-id": "nobody" } })
    expect(await settled(connection, [message])).toMatchObject([
      { _tag: "Refused", scope: "attempt", words: expect.stringMatching(/^PRECONDITION_FAILED - user_id/) },
    ])
    expect((await Effect.runPromise(connection.ended)).reason).toBe("error")
  })

  it("ends as an error when it says nothing and several were in flight", async () => {
    const { connection } = await open()
    const good = Array.from({ length: 50 }, () => outgoing({ destination: "/queue/ok" }))
    const outcomes = await settled(connection, [
      outgoing({ destination: "/queue/ok", headers: { "user-id": "nobody" } }),
      ...good,
    ])
    expect(outcomes[0]?._tag).toMatch(/Lost|Refused/)
    expect((await Effect.runPromise(connection.ended)).reason).toBe("error")
  })

  it("a direct publish fails with the broker's words", async () => {
    const layer = layerStomp({ url: rabbit.stompUrl })
    const run = (destination: string) =>
      Effect.runPromise(publish([outgoing({ id: "m1", destination })]).pipe(Effect.provide(layer)))
    await run("/queue/ok")
    await expect(run("/exchange/missing/k")).rejects.toMatchObject({
      reason: "rejected",
      message:
        "message m1 to /exchange/missing/k was refused: NOT_FOUND - no exchange 'missing' in vhost '/'",
    })
  })

  it.each(["/exchange/missing/k", "/amq/queue/missing", "/nope/missing"])(
    "a subscription to %s",
    async (destination) => {
      const { subscribe } = await open()
      await expect(subscribe({ destination })).rejects.toMatchObject({
        reason: "subscription",
        message: expect.stringMatching(/rejected: .*missing/),
      })
    },
  )
})

describe("what arrives", () => {
  it("is persistent, with its id in AMQP's terms, as a client of nobody's sees it", async () => {
    const destination = `/queue/seen-${randomUUID()}`
    const { connection } = await open()
    const message = outgoing({
      destination,
      headers: { "outbox-key": "a:b" },
      body: '{"id":1}',
      contentType: "application/json",
    })
    await settled(connection, [message])
    const raw = await rawStomp(rabbit.stompUrl)
    await raw.subscribe(destination, (_, ack) => ack())
    await eventually(() => expect(raw.frames.filter(({ command }) => command === "MESSAGE")).toHaveLength(1))
    const arrived = raw.frames.find(({ command }) => command === "MESSAGE")
    expect(arrived?.headers).toMatchObject({
      destination,
      persistent: "true",
      "content-type": "application/json",
      "amqp-message-id": message.id,
      "outbox-key": "a:b",
    })
    expect(arrived?.body.toString()).toBe('{"id":1}')
    raw.close()
  })

  it("gathers the frames of one turn into one write", async () => {
    const { connection } = await open()
    const batch = Array.from({ length: 200 }, () => outgoing({ destination: "/queue/ok", body: "x" }))
    const both = Promise.all([settled(connection, batch), settled(connection, batch)])
    const before = connection.buffered()
    await new Promise((resolve) => setImmediate(resolve))
    await new Promise((resolve) => setImmediate(resolve))
    expect(before).toBeGreaterThan(40_000)
    expect(kinds((await both).flat())).toEqual(Array.from({ length: 400 }, () => "Confirmed"))
    expect(connection.buffered()).toBe(0)
  })

  it("destroy() with a full socket sends nothing more", async () => {
    const proxy = await pipe()
    const { connection } = await open({ url: `stomp://guest:guest@127.0.0.1:${proxy.port}` })
    const destination = `/queue/cut-${randomUUID()}`
    await settled(connection, [outgoing({ destination, body: "first" })])
    proxy.pause()
    const count = 40_000
    const outcome = settled(
      connection,
      Array.from({ length: count }, () => outgoing({ destination, body: "x".repeat(1000) })),
    )
    await new Promise((resolve) => setTimeout(resolve, 300))
    const waiting = connection.buffered()
    expect(waiting).toBeGreaterThan(10_000_000)
    connection.destroy()
    expect(kinds(await outcome).every((kind) => kind === "Lost")).toBe(true)
    proxy.resume()
    await new Promise((resolve) => setTimeout(resolve, 500))
    // All that the proxy may still find is what had left the process before.
    expect(proxy.received()).toBeLessThan(count * 1300 - waiting)
  })
})

describe("connecting", () => {
  it.each([
    [
      "a wrong password",
      { passcode: Redacted.make("s3cret") },
      "refused",
      /as "guest".*Access refused for user 'guest'/,
    ],
    ["a wrong virtual host", { virtualHost: "nowhere" }, "refused", /virtual host "nowhere".*access denied/],
    ["nobody there", { url: "stomp://guest:s3cret@127.0.0.1:1" }, "unreachable", /ECONNREFUSED/],
    ["an unknown host", { url: "stomp://guest:s3cret@nowhere.invalid" }, "unreachable", /nowhere\.invalid/],
    ["no URL", { url: "s3cret" }, "refused", /broker URL 1 is not a URL/],
    ["another scheme", { url: "amqp://guest:s3cret@host" }, "refused", /unknown scheme "amqp"/],
    ["a login with a line end", { login: "a\nb" }, "refused", /line end/],
  ])("says what is wrong: %s", async (_, options, reason, message) => {
    const error = await failure(options)
    expect(error).toMatchObject({ reason, message: expect.stringMatching(message) })
    expect(`${JSON.stringify(error)} ${String(error)}`).not.toContain("s3cret")
  })

  it("says what is wrong: not STOMP, not a WebSocket, no TLS", async () => {
    const management = Number(new URL(rabbit.managementUrl).port)
    expect(await failure({ url: `stomp://127.0.0.1:${management}` })).toMatchObject({
      reason: "refused",
      message: expect.stringContaining("does not speak STOMP"),
    })
    expect((await failure({ url: `ws://127.0.0.1:${management}/ws` })).message).toContain("HTTP status")
    expect((await failure({ url: rabbit.stompUrl.replace("stomp", "stomps") })).message).toContain("TLS")
  })

  it("tries several hosts in turn", async () => {
    const { connection } = await open({ url: ["stomp://127.0.0.1:1", Redacted.make(rabbit.stompUrl)] })
    expect(kinds(await settled(connection, [outgoing({ destination: "/queue/ok" })]))).toEqual(["Confirmed"])
    const error = await failure({ url: ["stomp://127.0.0.1:1", "stomp://127.0.0.1:2"] })
    expect(error.isRetryable).toBe(true)
    expect(error.message).toMatch(/127\.0\.0\.1:1: .*; .*127\.0\.0\.1:2: /)
  })

  it("reads login, password and virtual host from the URL", async () => {
    await rabbit.ctl("add_vhost", "a/b")
    await rabbit.ctl("add_user", "u:v", "p@/ :%")
    await rabbit.ctl("set_permissions", "-p", "a/b", "u:v", ".*", ".*", ".*")
    const port = new URL(rabbit.stompUrl.replace("stomp", "http")).port
    const url = `stomp://${encodeURIComponent("u:v")}:${encodeURIComponent("p@/ :%")}@127.0.0.1:${port}/a%2Fb`
    const { connection } = await open({ url })
    expect(connection.profile).toMatchObject({ name: "rabbitmq", pipelined: true })
  })

  it("takes silence for an outage", async () => {
    const proxy = await pipe()
    const { connection } = await open({
      url: `stomp://guest:guest@127.0.0.1:${proxy.port}`,
      heartbeat: "200 millis",
    })
    await new Promise((resolve) => setTimeout(resolve, 1000))
    proxy.swallow()
    const outcome = settled(connection, [outgoing({ destination: "/queue/ok" })])
    const started = performance.now()
    expect(await Effect.runPromise(connection.ended)).toMatchObject({
      reason: "outage",
      words: expect.stringContaining("no sign of life"),
    })
    expect(performance.now() - started).toBeLessThan(5000)
    expect(kinds(await outcome)).toEqual(["Lost"])
  })

  it("gives up after the time allowed", async () => {
    const proxy = await pipe()
    proxy.swallow()
    const url = `stomp://guest:guest@127.0.0.1:${proxy.port}`
    const error = await failure({ url, connectTimeout: "300 millis" })
    expect(error).toMatchObject({ reason: "timeout", message: expect.stringContaining("within 300 ms") })
  })

  it("bounds a polite end", async () => {
    const proxy = await pipe()
    const { connection, close } = await open({ url: `stomp://guest:guest@127.0.0.1:${proxy.port}` })
    proxy.swallow()
    const started = performance.now()
    await close()
    expect(performance.now() - started).toBeLessThan(3000)
    expect((await Effect.runPromise(connection.ended)).reason).toBe("closed")
  })
})

describe("TLS", () => {
  let folder: string
  const pem = (name: string) => readFileSync(join(folder, name), "utf8")
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), "outbox-tls-"))
    const openssl = (...args: Array<string>) => execFileSync("openssl", args, { cwd: folder, stdio: "pipe" })
    const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    openssl(
      "req",
      "-x509",
      ...key,
      "-keyout",
      "ca.key",
      "-out",
      "ca.pem",
      "-days",
      "2",
      "-subj",
      "/CN=Test CA",
    )
    openssl(
      "req",
      ...key,
      "-keyout",
      "key.pem",
      "-out",
      "csr.pem",
      "-subj",
      "/CN=broker.test",
      "-addext",
      "subjectAltName=DNS:broker.test",
    )
    openssl(
      ..."x509 -req -in csr.pem -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -copy_extensions copy -out cert.pem".split(
        " ",
      ),
    )
  })
  afterAll(() => rmSync(folder, { recursive: true, force: true }))

  it.each(["stomps", "wss"])("%s trusts the given authority, and no other", async (scheme) => {
    const proxy = await pipe(
      { cert: pem("cert.pem"), key: pem("key.pem") },
      scheme === "wss" ? rabbit.wsUrl : rabbit.stompUrl,
    )
    const url = `${scheme}://guest:guest@127.0.0.1:${proxy.port}${scheme === "wss" ? "/ws" : ""}`
    const { connection } = await open({ url, tls: { ca: pem("ca.pem"), servername: "broker.test" } })
    expect(kinds(await settled(connection, [outgoing({ destination: "/queue/ok" })]))).toEqual(["Confirmed"])
    expect(await failure({ url, tls: { servername: "broker.test" } })).toMatchObject({
      reason: "refused",
      message: expect.stringContaining("tls.ca"),
    })
    expect(await failure({ url, tls: { ca: pem("ca.pem") } })).toMatchObject({
      reason: "refused",
      message: expect.stringContaining("tls.servername"),
    })
    await open({ url, tls: { rejectUnauthorized: false } })
  })
})

const management = async (path: string, init: { method?: string; body?: unknown } = {}) => {
  const response = await fetch(`${rabbit.managementUrl}/api${path}`, {
    method: init.method ?? "GET",
    headers: {
      authorization: `Basic ${Buffer.from(`${rabbit.user}:${rabbit.password}`).toString("base64")}`,
      "content-type": "application/json",
    },
    ...(init.body !== undefined && { body: JSON.stringify(init.body) }),
  })
  return { status: response.status, body: response.ok ? await response.text() : "" }
}
const queueOf = async (name: string) => {
  const { status, body } = await management(`/queues/%2F/${name}`)
  return status === 200 ? (JSON.parse(body) as Record<string, unknown>) : undefined
}

describe("named queues", () => {
  const subscriptions: ReadonlyArray<[string, () => Subscription]> = [
    ["/topic", () => ({ destination: `/topic/t-${randomUUID()}`, queue: `n-${randomUUID()}` })],
    [
      "/exchange",
      () => ({ destination: `/exchange/amq.direct/k-${randomUUID()}`, queue: `n-${randomUUID()}` }),
    ],
    [
      "a quorum queue",
      () => ({
        destination: `/topic/t-${randomUUID()}`,
        queue: `n-${randomUUID()}`,
        headers: { "x-queue-type": "quorum" },
      }),
    ],
  ]

  it.each(subscriptions)("of %s outlive every end but `forget`", async (_, make) => {
    const subscription = make()
    const name = subscription.queue as string
    const sender = (await open()).connection
    const ends: ReadonlyArray<
      (opened: Awaited<ReturnType<typeof open>>, close: () => Promise<void>) => unknown
    > = [(_, close) => close(), ({ close }) => close(), ({ connection }) => connection.destroy()]
    for (const end of ends) {
      const opened = await open({}, subscription)
      const { close } = await opened.subscribe(subscription)
      await end(opened, close)
      await opened.close()
      expect(await queueOf(name)).toMatchObject({ durable: true, auto_delete: false })
    }
    if (subscription.headers !== undefined) {
      expect(await queueOf(name)).toMatchObject({ type: "quorum" })
    }
    await settled(sender, [outgoing({ destination: subscription.destination, body: "kept" })])
    const reader = await open({}, subscription)
    const { received } = await reader.subscribe(subscription)
    await eventually(() => expect(received).toHaveLength(1))
    await reader.close()
    await Effect.runPromise((await open({}, subscription)).connection.forget(subscription))
    expect(await queueOf(name)).toBeUndefined()
    expect(kinds(await settled(sender, [outgoing({ destination: "/queue/ok" })]))).toEqual(["Confirmed"])
  })

  it("of a broker that lost its data are declared again by the next subscription", async () => {
    const subscription = { destination: `/topic/t-${randomUUID()}`, queue: `n-${randomUUID()}` }
    const first = await open({}, subscription)
    await first.subscribe(subscription)
    await management(`/queues/%2F/${subscription.queue}`, { method: "DELETE" })
    await eventually(async () => expect(await queueOf(subscription.queue)).toBeUndefined())
    const { subscribe, connection } = await open({}, subscription)
    const { received } = await subscribe(subscription)
    await settled(connection, [outgoing({ destination: subscription.destination, body: "again" })])
    await eventually(() => expect(received).toHaveLength(1))
  })

  it("declared with a single active consumer hand over in order, read as /amq/queue", async () => {
    const name = `sac-${randomUUID()}`
    await management(`/queues/%2F/${name}`, {
      method: "PUT",
      body: { durable: true, arguments: { "x-single-active-consumer": true } },
    })
    await management(`/bindings/%2F/e/amq.topic/q/${name}`, { method: "POST", body: { routing_key: name } })
    const subscription = { destination: `/amq/queue/${name}`, prefetch: 4, exclusive: true }
    const [first, second] = [await open({}, subscription), await open({}, subscription)]
    const one = await first.subscribe(subscription)
    const two = await second.subscribe(subscription)
    const { connection } = await open()
    await settled(
      connection,
      Array.from({ length: 8 }, (_, n) => outgoing({ destination: `/topic/${name}`, body: String(n) })),
    )
    const texts = (received: ReadonlyArray<Incoming>) =>
      received.map(({ body }) => Buffer.from(body).toString())
    await eventually(() => expect(texts(one.received)).toEqual(["0", "1", "2", "3"]))
    one.received[0]?.ack()
    one.received[2]?.ack()
    await eventually(() => expect(one.received).toHaveLength(6))
    expect(two.received).toHaveLength(0)
    first.connection.destroy()
    await eventually(() => expect(texts(two.received)).toEqual(["1", "3", "4", "5"]))
    expect(two.received.map(({ redelivered }) => redelivered)).toEqual([true, true, true, true])
    for (const message of two.received) message.ack()
    await eventually(() => expect(texts(two.received)).toEqual(["1", "3", "4", "5", "6", "7"]))
  })
})

lingerSuite("RabbitMQ", { url: () => rabbit.stompUrl, heartbeats: [1000, 3000] })
lingerSuite("RabbitMQ over WebSocket", { url: () => rabbit.wsUrl, heartbeats: [3000] })
