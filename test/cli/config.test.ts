import { existsSync, readFileSync } from "node:fs"
import { assert, describe, it } from "@effect/vitest"
import { Duration, Redacted } from "effect"
import { formatMillis } from "../../src/cli/duration.ts"
import { CliError } from "../../src/cli/failure.ts"
import { withoutSecrets } from "../../src/cli/secret.ts"
import { stompEnvironment } from "../../src/cli/stomp-environment.ts"
import {
  flagOf,
  readConfig,
  required,
  type SettingName,
  settings,
  settingsTable,
  variableOf,
} from "../../src/config.ts"

const NAMES = Object.keys(settings) as SettingName[]

const sentence = (run: () => unknown): string => {
  try {
    run()
  } catch (error) {
    assert.instanceOf(error, CliError)
    return error.message
  }
  throw new Error("it did not fail")
}

describe("settings", () => {
  it("have a variable and a flag each, all different", () => {
    assert.strictEqual(variableOf("brokerTlsCa"), "OUTBOX_BROKER_TLS_CA")
    assert.strictEqual(flagOf("brokerTlsCa"), "broker-tls-ca")
    assert.strictEqual(new Set(NAMES.map(variableOf)).size, NAMES.length)
  })

  it("have defaults that can be read", () => {
    const config = readConfig(NAMES, {})
    assert.strictEqual(config.schema, "outbox")
    assert.strictEqual(config.window, 1000)
    assert.strictEqual(Duration.toDays(config.retention), 30)
    assert.strictEqual(Duration.toMillis(config.lease), 10_000)
    assert.strictEqual(config.maxAttempts, 50)
    assert.isTrue(config.djangoHeaders)
    assert.isUndefined(config.databaseUrl)
    assert.isUndefined(config.deadRetention)
  })

  it("take the flag before the variable and the variable before the default; an empty variable is not set", () => {
    const environment = { OUTBOX_WINDOW: "10", OUTBOX_BATCH: "" }
    const config = readConfig(["window", "batch"], environment, new Map([["window", "20"]]))
    assert.deepStrictEqual(config, { window: 20, batch: 250 })
    assert.strictEqual(readConfig(["window"], environment).window, 10)
  })

  const durations: ReadonlyArray<readonly [string, number]> = [
    ["0", 0],
    ["500ms", 500],
    ["1.5 s", 1500],
    ["12h", 43_200_000],
    ["30 days", 2_592_000_000],
    ["2 Weeks", 1_209_600_000],
  ]
  it.each(durations)("read the duration %s", (given, millis) => {
    const { retention } = readConfig(["retention"], { OUTBOX_RETENTION: given })
    assert.strictEqual(Duration.toMillis(retention), millis)
  })

  const wrong: ReadonlyArray<readonly [SettingName, string, RegExp]> = [
    ["window", "many", /^OUTBOX_WINDOW \(--window\) is "many": expected a whole number from 1 to 100,000$/],
    ["window", "0", /is "0": expected a whole number from 1/],
    ["window", "1e3", /is "1e3"/],
    [
      "lease",
      "10",
      /^OUTBOX_LEASE \(--lease\) is "10": expected a duration with its unit from 1 s to 10 minutes/,
    ],
    ["lease", "5 ms", /is "5 ms": expected a duration/],
    ["retention", "-1 days", /is "-1 days"/],
    ["listen", "maybe", /^OUTBOX_LISTEN \(--listen\) is "maybe": expected "on" or "off"$/],
    ["logLevel", "loud", /expected one of debug, info, warn, error, none$/],
    ["logLevel", "constructor", /expected one of/],
    ["order", "any", /^OUTBOX_ORDER \(--order\) is "any": expected one of key, none$/],
    ["parallel", "0", /expected a whole number from 1 to 1,000$/],
    ["handlerTimeout", "0", /expected a duration with its unit from 1 ms to 24 h/],
    ["deadLetter", "onn", /expected "on", "off" or a destination such as \/queue\/dead$/],
    ["subscriptionHeaders", "x-queue-type", /expected headers as name:value, several separated by commas$/],
    ["schema", "x".repeat(64), /expected the name of a PostgreSQL schema/],
    ["brokerTlsCa", "/nowhere/ca.pem", /"\/nowhere\/ca.pem": expected a PEM file that can be read$/],
    ["livenessFile", "/nowhere/alive", /expected a file in a folder that can be written$/],
  ]
  it.each(wrong)("say what is wrong with %s %j", (name, given, words) => {
    assert.match(
      sentence(() => readConfig([name], { [variableOf(name)]: given })),
      words,
    )
  })

  it("of a consumer take a destination or a word, and headers by name", () => {
    const read = (given: string) => readConfig(["deadLetter"], { OUTBOX_DEAD_LETTER: given }).deadLetter
    assert.deepStrictEqual(["", "on", "off", "/queue/dead"].map(read), [false, true, false, "/queue/dead"])
    assert.deepStrictEqual(
      readConfig(["subscriptionHeaders"], { OUTBOX_SUBSCRIPTION_HEADERS: "x-queue-type:quorum, a : b:c" })
        .subscriptionHeaders,
      { "x-queue-type": "quorum", a: "b:c" },
    )
  })

  it("name the flag first when the flag is wrong", () => {
    assert.match(
      sentence(() => readConfig(["window"], {}, new Map([["window", "x"]]))),
      /^--window \(OUTBOX_WINDOW\) is "x"/,
    )
  })

  it("never repeat a URL", () => {
    for (const [name, given] of [
      ["databaseUrl", "mysql://app:hunter2@db/shop"],
      ["brokerUrl", "amqp://app:hunter2@mq"],
      ["brokerUrl", "stomp://app:hunter2@a,http://app:hunter2@b"],
      ["brokerUrl", "stomp://"],
    ] as const) {
      const said = sentence(() => readConfig([name], { [variableOf(name)]: given }))
      assert.match(said, new RegExp(`^${variableOf(name)} .* is not a value it can have: expected `))
      assert.notInclude(said, "hunter2")
    }
    const { databaseUrl } = readConfig(["databaseUrl"], { OUTBOX_DATABASE_URL: "postgres://a:hunter2@b/c" })
    assert.notInclude(JSON.stringify({ databaseUrl }) + String(databaseUrl), "hunter2")
  })

  it("say which one is missing", () => {
    assert.match(
      sentence(() => required("databaseUrl", readConfig(["databaseUrl"], {}))),
      /^OUTBOX_DATABASE_URL \(--database-url\) is missing: expected postgres:\/\//,
    )
  })

  it("name several hosts of a broker", () => {
    const { brokerUrl } = readConfig(["brokerUrl"], { OUTBOX_BROKER_URL: "stomp://a, wss://b/ws" })
    assert.deepStrictEqual(brokerUrl?.map(Redacted.value), ["stomp://a", "wss://b/ws"])
  })

  it("are in the README's table as they are here", () => {
    const table = settingsTable()
    for (const name of NAMES) assert.include(table, `| \`${variableOf(name)}\` | \`--${flagOf(name)}\` |`)
    const readme = new URL("../../README.md", import.meta.url)
    if (!existsSync(readme)) return
    const [, shown = ""] =
      /<!-- settings -->([\s\S]*?)<!-- \/settings -->/.exec(readFileSync(readme, "utf8")) ?? []
    if (shown.trim() !== "") assert.include(shown, table)
  })
})

describe("the variables of django-outbox-pattern's users", () => {
  const read = (environment: NodeJS.ProcessEnv) => stompEnvironment(environment)?.map(Redacted.value)

  it("name a broker with that library's defaults", () => {
    assert.isUndefined(read({}))
    assert.deepStrictEqual(read({ STOMP_HOST: "mq" }), ["stomp://guest:guest@mq:61613/%2F"])
    assert.deepStrictEqual(
      read({
        STOMP_PORT: "61614",
        STOMP_USERNAME: "app",
        STOMP_PASSCODE: "p@ss/word",
        STOMP_VHOST: "shop",
        STOMP_USE_SSL: "True",
      }),
      ["stomps://app:p%40ss%2Fword@127.0.0.1:61614/shop"],
    )
    assert.deepStrictEqual(read({ STOMP_HOST: "::1" }), ["stomp://guest:guest@[::1]:61613/%2F"])
  })

  it("are refused by name", () => {
    assert.match(
      sentence(() => read({ STOMP_PORT: "stomp" })),
      /^STOMP_PORT is "stomp": expected a port/,
    )
    assert.match(
      sentence(() => read({ STOMP_USE_SSL: "perhaps" })),
      /^STOMP_USE_SSL is "perhaps"/,
    )
    assert.match(
      sentence(() => read({ STOMP_HOST: "a b" })),
      /^STOMP_HOST is "a b"/,
    )
  })
})

describe("what is written", () => {
  it("has no password of a URL in it", () => {
    assert.strictEqual(
      withoutSecrets("a stomp://app:hunter2@mq:1/x and postgres://u:p%40w@db"),
      "a stomp://app:***@mq:1/x and postgres://u:***@db",
    )
    assert.strictEqual(withoutSecrets("at file:///a/b.js:1:2, x@y"), "at file:///a/b.js:1:2, x@y")
  })

  it("shows spans of time in one or two units", () => {
    assert.deepStrictEqual([0, 850, 4250, 200_000, 18_720_000, 1_047_600_000, 60_000].map(formatMillis), [
      "0 ms",
      "850 ms",
      "4.2 s",
      "3 min 20 s",
      "5 h 12 min",
      "12 d 3 h",
      "1 min",
    ])
  })
})
