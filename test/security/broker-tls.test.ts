/** Whoever has no certificate for the broker's name from an authority we trust is no broker of ours. */
import { afterAll, afterEach, beforeAll, describe, expect, inject, it } from "vitest"
import { layerStomp, type StompOptions } from "../../src/broker/stomp/stomp.ts"
import { start } from "../cli/program.ts"
import { connector, outgoing, settled } from "../suites/broker.ts"
import { type Certificate, type Certificates, makeCertificates } from "../support/certificates.ts"
import { createDatabase } from "../support/postgres.ts"
import { startProxy } from "../support/proxy.ts"
import { type Rabbit, startRabbit } from "../support/rabbitmq.ts"
import { freePorts } from "../support/server-process.ts"

let certificates: Certificates
let good: Certificate
beforeAll(() => {
  certificates = makeCertificates()
  good = certificates.issue("good", "DNS:localhost,IP:127.0.0.1")
})
afterAll(() => certificates?.remove())

const cleanups: Array<() => Promise<unknown>> = []
afterEach(async () => {
  for (const clean of cleanups.splice(0).reverse()) await clean()
})

const portOf = (url: string) => Number(new URL(url.replace(/^stomp/, "http")).port)
const serve = async (scheme: "stomps" | "wss", { cert, key }: Certificate, host = "localhost") => {
  const { stompUrl, wsUrl } = inject("rabbitmq")
  const proxy = await startProxy(portOf(scheme === "stomps" ? stompUrl : wsUrl), { tls: { cert, key } })
  cleanups.push(proxy.close)
  return `${scheme}://guest:guest@${host}:${proxy.port}${scheme === "wss" ? "/ws" : ""}`
}
const connect = (url: string, options: Partial<StompOptions> = {}) => {
  const { open, closeAll } = connector(layerStomp({ url, heartbeat: 0, ...options }))
  cleanups.push(closeAll)
  return open()
}
const refusal = (url: string, options?: Partial<StompOptions>) =>
  connect(url, options).then(
    () => expect.unreachable("connected"),
    (error) => error as { readonly reason: string; readonly message: string },
  )
const publishes = async (url: string, options: Partial<StompOptions>) => {
  const { connection } = await connect(url, options)
  return settled(connection, [outgoing({ destination: "/topic/tls" })])
}

describe.each(["stomps", "wss"] as const)("a broker at %s", (scheme) => {
  it.each([
    ["signed by itself", () => certificates.selfSigned(), /not trusted .*OUTBOX_BROKER_TLS_CA/],
    ["expired", () => certificates.issue("expired", "DNS:localhost", "expired"), /has expired/],
    ["not valid yet", () => certificates.issue("early", "DNS:localhost", "early"), /not valid yet/],
    ["for another host", () => certificates.issue("other", "DNS:elsewhere.example"), /for another host/],
  ])("whose certificate is %s is refused", async (_, certificate, words) => {
    const url = await serve(scheme, certificate())
    const error = await refusal(url, { tls: { ca: certificates.ca } })
    expect(error).toMatchObject({ reason: "refused", message: expect.stringMatching(words) })
    expect(await publishes(url, { tls: { rejectUnauthorized: false } })).toEqual([{ _tag: "Confirmed" }])
  })

  it("of an authority that nobody named is refused", async () => {
    expect(await refusal(await serve(scheme, good))).toMatchObject({
      reason: "refused",
      message: expect.stringMatching(/not trusted/),
    })
  })

  it.each(["localhost", "127.0.0.1"])("of our authority, for %s, is the broker", async (host) => {
    const url = await serve(scheme, good, host)
    expect(await publishes(url, { tls: { ca: certificates.ca } })).toEqual([{ _tag: "Confirmed" }])
  })

  it("is known by another name where one is given", async () => {
    const url = await serve(scheme, certificates.issue("inner", "DNS:broker.internal"), "127.0.0.1")
    const tls = { ca: certificates.ca, servername: "broker.internal" }
    expect(await publishes(url, { tls })).toEqual([{ _tag: "Confirmed" }])
    expect(await refusal(url, { tls: { ...tls, servername: "other.internal" } })).toMatchObject({
      message: expect.stringMatching(/for another host/),
    })
  })
})

describe("a broker that asks for certificates of its clients", () => {
  let rabbit: Rabbit
  let ports: ReadonlyArray<number>
  beforeAll(async () => {
    ports = await freePorts(2)
    rabbit = await startRabbit({
      config: [
        `stomp.listeners.ssl.1 = 127.0.0.1:${ports[0]}`,
        `ssl_options.cacertfile = ${certificates.caFile}`,
        `ssl_options.certfile = ${good.certFile}`,
        `ssl_options.keyfile = ${good.keyFile}`,
        "ssl_options.verify = verify_peer",
        "ssl_options.fail_if_no_peer_cert = true",
        "web_stomp.ssl.ip = 127.0.0.1",
        `web_stomp.ssl.port = ${ports[1]}`,
        `web_stomp.ssl.certfile = ${good.certFile}`,
        `web_stomp.ssl.keyfile = ${good.keyFile}`,
      ],
    })
  })
  afterAll(() => rabbit?.remove())

  /** RabbitMQ's WebSocket asks nobody; a proxy before it does. */
  const urlOf = async (scheme: string) => {
    if (scheme === "stomps") return `stomps://guest:guest@localhost:${ports[0]}`
    const { cert, key } = good
    const asking = { cert, key, ca: certificates.ca, requestCert: true }
    const proxy = await startProxy(portOf(rabbit.wsUrl), { tls: asking })
    cleanups.push(proxy.close)
    return `wss://guest:guest@localhost:${proxy.port}/ws`
  }

  it.each(["stomps", "wss"])("takes one whose certificate it trusts (%s)", async (scheme) => {
    const { cert, key } = certificates.issue(`client-${scheme}`, "DNS:client")
    expect(await publishes(await urlOf(scheme), { tls: { ca: certificates.ca, cert, key } })).toEqual([
      { _tag: "Confirmed" },
    ])
  })

  it.each(["stomps", "wss"])("takes none without, or with another's (%s)", async (scheme) => {
    const { cert, key } = certificates.selfSigned()
    const url = await urlOf(scheme)
    for (const tls of [{ ca: certificates.ca }, { ca: certificates.ca, cert, key }]) {
      const error = await refusal(url, { tls })
      // The proxy hangs up without a word.
      if (scheme === "wss") expect(["unreachable", "refused"]).toContain(error.reason)
      else expect(error.message).toMatch(/client's certificate.*OUTBOX_BROKER_TLS_CERT/)
    }
  })

  it("is RabbitMQ over wss, too", async () => {
    const url = `wss://guest:guest@localhost:${ports[1]}/ws`
    expect(await publishes(url, { tls: { ca: certificates.ca } })).toEqual([{ _tag: "Confirmed" }])
    expect(await refusal(url)).toMatchObject({ message: expect.stringMatching(/not trusted/) })
  })
})

describe("OUTBOX_BROKER_TLS_VERIFY=off", () => {
  const warnings = (output: string) => output.split("OUTBOX_BROKER_TLS_VERIFY is off").length - 1
  const relay = async (variables: Readonly<Record<string, string>>, brokerUrl: string) => {
    const database = await createDatabase()
    cleanups.push(database.drop)
    return start("relay.js", ["--once"], {
      OUTBOX_DATABASE_URL: database.url,
      OUTBOX_BROKER_URL: brokerUrl,
      ...variables,
    }).ended
  }

  it("connects to anybody, and says so once", async () => {
    const url = await serve("stomps", certificates.selfSigned())
    const off = await relay({ OUTBOX_BROKER_TLS_VERIFY: "off" }, url)
    expect([off.code, warnings(off.stdout)]).toEqual([0, 1])
    const on = await relay({}, url)
    expect([on.code, warnings(on.stdout)]).toEqual([1, 0])
    expect(on.stderr).toMatch(/not trusted/)
  })

  it("is nothing to warn of where there is no TLS", async () => {
    const ended = await relay({ OUTBOX_BROKER_TLS_VERIFY: "off" }, inject("rabbitmq").stompUrl)
    expect([ended.code, warnings(ended.stdout)]).toEqual([0, 0])
  })

  it("is off for nobody else: the variables give authority, name and certificate", async () => {
    const url = await serve("stomps", certificates.issue("named", "DNS:named"))
    const given = { OUTBOX_BROKER_TLS_CA: certificates.caFile, OUTBOX_BROKER_TLS_SERVERNAME: "named" }
    expect((await relay(given, url)).code).toBe(0)
    expect((await relay({ OUTBOX_BROKER_TLS_CA: certificates.caFile }, url)).stderr).toMatch(/another host/)
  })
})
