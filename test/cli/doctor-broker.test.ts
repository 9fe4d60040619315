/** The doctor's findings at the broker: each is there with its cause, and nothing is found without one. */
import { execFileSync } from "node:child_process"
import { randomUUID } from "node:crypto"
import { mkdtempSync, readFileSync, rmSync } from "node:fs"
import { hostname, tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, assert, beforeAll, describe, inject, it } from "@effect/vitest"
import { createDatabase, type TestDatabase } from "../support/postgres.ts"
import { startProxy } from "../support/proxy.ts"
import { type Rabbit, startRabbit } from "../support/rabbitmq.ts"
import { rabbitApi } from "../support/rabbitmq-api.ts"
import { writeMessages } from "../support/relay.ts"
import { doctor, doctorProgram } from "./doctor-run.ts"
import { cli } from "./program.ts"

const vhost = `doctor-${randomUUID().slice(0, 8)}`
const api = rabbitApi(inject("rabbitmq").managementUrl, vhost)
let database: TestDatabase

beforeAll(async () => {
  database = await createDatabase()
  await api.createVhost()
})
afterAll(async () => {
  await api.removeVhost()
  await database.drop()
})

const variables = () => ({
  OUTBOX_DATABASE_URL: database.url,
  OUTBOX_BROKER_URL: inject("rabbitmq").stompUrl,
  OUTBOX_BROKER_MANAGEMENT_URL: inject("rabbitmq").managementUrl,
  OUTBOX_VHOST: vhost,
})
/** The server of the tests may lose its data. */
const ALWAYS = ["database.durability"]

/** A queue with these arguments, bound to `/topic/NAME`. */
const bound = async (name: string, given: Record<string, unknown> = {}, durable = true) => {
  await api.queue(name, given, durable)
  await api.bind("amq.topic", name, name)
}

const topic = (name: string) => `/topic/${name}`

const cases: ReadonlyArray<{
  readonly title: string
  readonly build: (name: string) => Promise<unknown>
  readonly destination?: (name: string) => string
  /** Without a check nothing is found. */
  readonly check?: string
  readonly level?: "warning" | "problem"
  readonly where?: RegExp
  readonly what?: RegExp
  readonly remedy?: RegExp
}> = [
  { title: "a bound topic", build: bound },
  {
    title: "a topic without a queue",
    build: async () => {},
    check: "topology.unrouted",
    level: "problem",
    where: /^\/topic\//,
    what: /^leads nowhere: nothing is bound to exchange "amq\.topic".*RabbitMQ confirms its messages and drops them$/,
    remedy:
      /^start the consumer once.*or bind a queue to exchange "amq\.topic" with the key.*OUTBOX_STRICT=on/,
  },
  {
    title: "a queue that was unbound",
    build: async (name) => {
      await bound(name)
      await api.unbind("amq.topic", name, name)
    },
    check: "topology.unrouted",
    level: "problem",
    what: /nothing is bound/,
  },
  {
    title: "an exchange that is not there",
    build: async () => {},
    destination: (name) => `/exchange/${name}/k`,
    check: "topology.unrouted",
    level: "problem",
    what: /there is no exchange/,
    remedy: /^declare the exchange/,
  },
  {
    title: "a queue that is not there",
    build: async () => {},
    destination: (name) => `/amq/queue/${name}`,
    check: "topology.unrouted",
    level: "problem",
    what: /there is no queue/,
    remedy: /^declare the queue/,
  },
  {
    title: "an alternate exchange",
    build: async (name) => {
      await api.queue(name)
      await api.exchange(`${name}.alt`, "fanout")
      await api.bind(`${name}.alt`, name, "")
      await api.exchange(name, "direct", { "alternate-exchange": `${name}.alt` })
    },
    destination: (name) => `/exchange/${name}/k`,
  },
  {
    title: "a destination of no kind",
    build: async () => {},
    destination: (name) => `/nope/${name}`,
    check: "topology.destination",
    level: "problem",
    what: /no destination that RabbitMQ takes/,
  },
  {
    title: "headers that decide",
    build: async (name) => {
      await api.exchange(name, "headers")
      await api.queue(name)
      await api.bind(name, name, "", { tenant: "a" })
    },
    destination: (name) => `/exchange/${name}`,
    check: "topology.unknown",
    level: "warning",
    what: /routes by the headers/,
  },
  { title: "a queue to be declared", build: async () => {}, destination: (name) => `/queue/${name}` },
  { title: "a plain queue", build: (name) => api.queue(name), destination: (name) => `/queue/${name}` },
  {
    title: "a queue declared otherwise",
    build: (name) => api.queue(name, { "x-max-priority": 5 }),
    destination: (name) => `/queue/${name}`,
    check: "topology.declaration",
    level: "problem",
    what: /x-max-priority.*PRECONDITION_FAILED/,
    remedy: /^send to \/amq\/queue\//,
  },
  {
    title: "a queue that does not last",
    build: (name) => bound(name, {}, false),
    check: "topology.transient",
    level: "warning",
    what: /do not last/,
  },
  {
    title: "dead letters to an exchange that is not there",
    build: (name) => bound(name, { "x-dead-letter-exchange": `${name}.dlx` }),
    check: "topology.dead-letter",
    level: "problem",
    where: /^queue "/,
    what: /^drops what it dead-letters, as that leads nowhere: there is no exchange ".*\.dlx"$/,
    remedy: /^declare the exchange/,
  },
  {
    title: "dead letters to a queue that is not there",
    build: (name) =>
      bound(name, { "x-dead-letter-exchange": "", "x-dead-letter-routing-key": `DLQ.${name}` }),
    check: "topology.dead-letter",
    level: "problem",
    what: /there is no queue "DLQ\./,
    remedy: /^declare the queue "DLQ\.\S+" \(for dead letters\)$/,
  },
  {
    title: "dead letters of a policy, with a key that nothing takes",
    build: async (name) => {
      await bound(name)
      await api.exchange(`${name}.dlx`, "direct")
      await api.policy(name, `^${name}$`, "queues", { "dead-letter-exchange": `${name}.dlx` })
    },
    check: "topology.dead-letter",
    level: "problem",
    what: /nothing is bound to exchange ".*\.dlx" for the routing key "/,
    remedy: /^bind a queue to exchange/,
  },
  {
    title: "dead letters that keep their key and arrive",
    build: async (name) => {
      await bound(name, { "x-dead-letter-exchange": `${name}.dlx` })
      await api.exchange(`${name}.dlx`, "direct")
      await api.queue(`${name}.dlq`)
      await api.bind(`${name}.dlx`, `${name}.dlq`, name)
    },
  },
  {
    title: "a limit that drops",
    build: (name) => bound(name, { "x-max-length": 1000 }),
    check: "topology.limit",
    level: "problem",
    what: /^drops its oldest messages beyond 1,000 messages, confirmed ones, too$/,
    remedy: /reject-publish/,
  },
  {
    title: "an operator's limit that drops",
    build: async (name) => {
      await bound(name)
      await api.policy(name, `^${name}$`, "queues", { "max-length-bytes": 5000 }, "operator-policies")
    },
    check: "topology.limit",
    level: "problem",
    what: /beyond 5,000 bytes/,
  },
  {
    title: "a limit that makes the relay wait",
    build: (name) => bound(name, { "x-max-length": 1000, "x-overflow": "reject-publish" }),
  },
  {
    title: "a limit with an overflow by policy",
    build: async (name) => {
      await bound(name, { "x-max-length": 1000 })
      await api.policy(name, `^${name}$`, "queues", { overflow: "reject-publish" })
    },
  },
  {
    title: "messages that expire",
    build: (name) => bound(name, { "x-message-ttl": 60_000 }),
    check: "topology.ttl",
    level: "warning",
    what: /^drops what waits for longer than 1 min$/,
  },
  {
    title: "a queue that expires",
    build: (name) => bound(name, { "x-expires": 3_600_000 }),
    check: "topology.expires",
    level: "warning",
    what: /when nobody uses it for 1 h$/,
  },
]

describe("the doctor on", () => {
  it.each(cases)("$title", async ({ build, destination = topic, ...expected }) => {
    const name = `d${randomUUID().slice(0, 8)}`
    await build(name)
    const { code, findings, checks } = await doctor(variables(), { destination: [destination(name)] })
    assert.deepStrictEqual(
      checks,
      expected.check === undefined ? ALWAYS : [...ALWAYS, expected.check],
      JSON.stringify(findings),
    )
    assert.strictEqual(code, expected.level === "problem" ? 1 : 0)
    if (expected.check === undefined) return
    const found = findings.filter(({ check }) => check === expected.check)
    assert.lengthOf(found, 1)
    assert.strictEqual(found[0]?.level, expected.level)
    assert.include(found[0]?.where, name)
    assert.match(found[0]?.where ?? "", expected.where ?? /./)
    assert.match(found[0]?.what ?? "", expected.what ?? /./)
    if (expected.remedy !== undefined) assert.match(found[0]?.remedy ?? "", expected.remedy)
  })

  it("the destinations of messages and of arguments, each once", async () => {
    const [one, two, three] = ["a", "b", "c"].map((letter) => `/topic/${letter}.${randomUUID()}`) as [
      string,
      string,
      string,
    ]
    const own = await createDatabase()
    await writeMessages(own.sql, { count: 2, destination: one })
    await writeMessages(own.sql, { count: 2, destination: two })
    await own.sql`UPDATE outbox.messages SET published_at = now() WHERE destination = ${two}`
    const args = [one, three, "--destination", `${three}.x`]
    const { findings } = await doctorProgram({ ...variables(), OUTBOX_DATABASE_URL: own.url }, args)
    await own.drop()
    assert.deepStrictEqual(
      findings.filter(({ check }) => check === "topology.unrouted").map(({ where }) => where),
      [one, two, three, `${three}.x`],
    )
  })
})

describe("a management API", () => {
  it("that is away, or refuses, is a problem, and the other checks go on; no password is told", async () => {
    const { port } = new URL(inject("rabbitmq").managementUrl)
    for (const [url, words] of [
      ["http://app:hunter2@127.0.0.1:1", /ECONNREFUSED/],
      [`http://app:hunter2@127.0.0.1:${port}`, /"app" may not use the management API/],
    ] as const) {
      const visit = await doctor(
        { ...variables(), OUTBOX_BROKER_MANAGEMENT_URL: url },
        { destination: ["/topic/x"] },
      )
      assert.strictEqual(visit.code, 1)
      assert.deepStrictEqual(visit.checks, [...ALWAYS, "management.connect"])
      assert.match(visit.findings.find(({ check }) => check === "management.connect")?.what ?? "", words)
      assert.notInclude(JSON.stringify(visit), "hunter2")
    }
  })

  it("is asked with a clock of its own", async () => {
    const code = "const now = Date.now; Date.now = () => now() + 9000"
    const { findings } = await doctorProgram({
      ...variables(),
      NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(code)}`,
    })
    const found = findings.find(({ check }) => check === "broker.clock")
    assert.match(found?.what ?? "", /this machine is ahead/)
  })
})

describe("a broker", () => {
  it("that is away is a problem, and the database is checked all the same", async () => {
    const url = "stomp://app:hunter2@127.0.0.1:1"
    const { OUTBOX_BROKER_MANAGEMENT_URL: _, ...rest } = variables()
    const visit = await doctor({ ...rest, OUTBOX_BROKER_URL: url })
    assert.strictEqual(visit.code, 1)
    assert.deepStrictEqual(visit.checks, ["broker.connect", ...ALWAYS, "topology.route"])
    assert.match(visit.findings.find(({ check }) => check === "broker.connect")?.what ?? "", /ECONNREFUSED/)
    assert.notInclude(JSON.stringify(visit), "hunter2")
  })

  it("that refuses login or virtual host says so", async () => {
    for (const [change, words] of [
      [
        { OUTBOX_BROKER_URL: inject("rabbitmq").stompUrl.replace("guest:guest", "app:hunter2") },
        /refused .* as "app"/,
      ],
      [{ OUTBOX_VHOST: "none" }, /virtual host "none"|closed/],
    ] as const) {
      const { findings } = await doctor({ ...variables(), ...change })
      const found = findings.find(({ check }) => check === "broker.connect")
      assert.match(found?.what ?? "", words)
      assert.match(found?.remedy ?? "", /user, password, virtual host|see that it runs/)
      assert.notInclude(JSON.stringify(findings), "hunter2")
    }
  })

  it("whose URL cannot be read is a problem, without the URL", async () => {
    const url = "stomp://app%zz:hunter2@127.0.0.1:1"
    const visit = await doctor({ ...variables(), OUTBOX_BROKER_URL: url })
    assert.deepStrictEqual(visit.checks, ["broker.connect", ...ALWAYS])
    assert.notInclude(JSON.stringify(visit), "hunter2")
  })

  it("without heart-beats is warned of", async () => {
    const { code, checks } = await doctor({ ...variables(), OUTBOX_HEARTBEAT: "0" })
    assert.deepStrictEqual(checks, ["broker.heartbeat", ...ALWAYS, "topology.route"])
    assert.strictEqual(code, 0)
  })

  it("elsewhere without TLS is warned of", async () => {
    const { findings } = await doctor({ ...variables(), OUTBOX_BROKER_URL: `stomp://${hostname()}:1` })
    const found = findings.find(({ check }) => check === "broker.tls")
    assert.strictEqual(found?.level, "warning")
    assert.match(found?.what ?? "", /without TLS/)
  })

  it("that is ActiveMQ says what it does not tell", async () => {
    const { OUTBOX_VHOST: _, OUTBOX_BROKER_MANAGEMENT_URL: __, ...rest } = variables()
    const visit = await doctor(
      { ...rest, OUTBOX_BROKER_URL: inject("activemq").stompUrl },
      { destination: ["/topic/x"] },
    )
    assert.strictEqual(visit.code, 0)
    const found = visit.findings.find(({ check }) => check === "topology.route")
    assert.match(
      found?.what ?? "",
      /topic without a durable subscriber.*confirms its messages and drops them/,
    )
  })
})

describe("TLS", () => {
  let folder: string
  const pem = (name: string) => readFileSync(join(folder, name), "utf8")
  const certificate = (name: string, days: number) =>
    execFileSync(
      "openssl",
      `req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout ${name}.key -out ${name}.pem -days ${days} -subj /CN=broker.test -addext subjectAltName=DNS:localhost`.split(
        " ",
      ),
      { cwd: folder, stdio: "pipe" },
    )
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), "outbox-doctor-"))
    certificate("long", 90)
    certificate("short", 10)
  })
  afterAll(() => rmSync(folder, { recursive: true, force: true }))

  const through = async (name: string, more: Readonly<Record<string, string>>) => {
    const port = Number(new URL(inject("rabbitmq").stompUrl.replace("stomp:", "http:")).port)
    const proxy = await startProxy(port, { tls: { cert: pem(`${name}.pem`), key: pem(`${name}.key`) } })
    try {
      return await doctor({
        ...variables(),
        OUTBOX_BROKER_URL: `stomps://guest:guest@localhost:${proxy.port}`,
        ...more,
      })
    } finally {
      await proxy.close()
    }
  }

  it("with a good certificate is well", async () => {
    const { checks } = await through("long", { OUTBOX_BROKER_TLS_CA: join(folder, "long.pem") })
    assert.deepStrictEqual(checks, [...ALWAYS, "topology.route"])
  })

  it("tells of a certificate that expires within 30 days", async () => {
    const { code, findings } = await through("short", { OUTBOX_BROKER_TLS_CA: join(folder, "short.pem") })
    const found = findings.find(({ check }) => check === "broker.certificate")
    assert.strictEqual(found?.level, "problem")
    assert.match(found?.what ?? "", /^the certificate of "broker\.test" expires in (9 d.*|10 d), on 20/)
    assert.strictEqual(code, 1)
  })

  it("that verifies nothing is a problem; what is not trusted says how to mend it", async () => {
    const off = await through("long", { OUTBOX_BROKER_TLS_VERIFY: "off" })
    assert.deepStrictEqual(off.checks, ["broker.tls", ...ALWAYS, "topology.route"])
    const untrusted = await through("long", {})
    const found = untrusted.findings.find(({ check }) => check === "broker.connect")
    assert.match(found?.what ?? "", /not trusted/)
  })
})

describe("a RabbitMQ under a resource alarm", () => {
  let rabbit: Rabbit
  beforeAll(async () => {
    rabbit = await startRabbit()
  }, 120_000)
  afterAll(() => rabbit?.remove())

  it("is a problem until the alarm ends", async () => {
    const env = {
      OUTBOX_DATABASE_URL: database.url,
      OUTBOX_BROKER_URL: rabbit.stompUrl,
      OUTBOX_BROKER_MANAGEMENT_URL: rabbit.managementUrl,
    }
    await rabbit.ctl("set_vm_memory_high_watermark", "0.000001")
    const blocked = await doctor(env)
    await rabbit.ctl("set_vm_memory_high_watermark", "0.8")
    const found = blocked.findings.find(({ check }) => check === "broker.alarm")
    assert.strictEqual(found?.level, "problem")
    assert.match(found?.what ?? "", /^memory on outbox-.*takes nothing from publishers/)
    assert.notInclude((await doctor(env)).checks, "broker.alarm")
  })
})

it("--help names its settings and arguments", async () => {
  const { code, stdout } = await cli(["doctor", "--help"])
  assert.strictEqual(code, 0)
  assert.match(stdout, /^drizzle-outbox doctor \[DESTINATION…\] \[flags\]$/m)
  assert.match(stdout, /OUTBOX_BROKER_MANAGEMENT_URL/)
  const wrong = await cli(["doctor", "orders"])
  assert.match(wrong.stderr, /--destination is "orders": expected destinations such as \/topic\/orders\.v2/)
})
