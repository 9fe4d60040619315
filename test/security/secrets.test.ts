/** No password, in none of its forms, is in anything that the programs print, record or show of themselves. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, afterEach, assert, beforeAll, describe, inject, it } from "vitest"
import { start } from "../cli/program.ts"
import { type Certificates, makeCertificates } from "../support/certificates.ts"
import { createDatabase, type TestDatabase } from "../support/postgres.ts"
import { startProxy } from "../support/proxy.ts"
import { eventually } from "../support/relay.ts"
import { rawStomp } from "../support/stomp-client.ts"

const SECRET = "Zq7#xK/9@w?Vb:3'&Yt"
const PARAMETER = "parameter-Jw4kQ8-of-a-query"

/** A secret as it is, encoded for a URL in whole or in part, in base64 as a header has it, and its parts around what ends a URL's part. */
const formsOf = (secret: string): ReadonlyArray<string> => [
  secret,
  encodeURIComponent(secret),
  encodeURI(secret),
  ...["", "u:", "guest:"].map((user) => Buffer.from(`${user}${secret}`).toString("base64")),
  JSON.stringify(secret).slice(1, -1),
  "Zq7#xK",
  "Zq7%23xK",
  "9@w?Vb",
  "9%40w%3FVb",
  "w?Vb:3",
]

const assertNoSecret = (text: string, where: string) => {
  for (const form of [...formsOf(SECRET), PARAMETER])
    assert.isFalse(text.includes(form), `${where} shows ${form}:\n${text.slice(0, 2000)}`)
}

let database: TestDatabase
let certificates: Certificates
let folder: string
beforeAll(async () => {
  database = await createDatabase()
  certificates = makeCertificates()
  folder = mkdtempSync(join(tmpdir(), "outbox-secrets-"))
  writeFileSync(
    join(folder, "handlers.js"),
    `import { sql } from "${new URL("../../node_modules/drizzle-orm/index.js", import.meta.url).href}"
     export const query = ({ tx }) => tx.execute(sql\`SELECT 1 / (length(\${"${PARAMETER}"}::text) - ${PARAMETER.length})\`)`,
  )
})
afterAll(async () => {
  rmSync(folder, { recursive: true, force: true })
  certificates?.remove()
  await database?.drop()
})

const cleanups: Array<() => Promise<unknown>> = []
afterEach(async () => {
  for (const clean of cleanups.splice(0).reverse()) await clean()
})

const encoded = encodeURIComponent(SECRET)
const hostOf = (url: string) => url.slice(url.lastIndexOf("@") + 1)
const databaseAs = (password: string, host = hostOf(database.url)) =>
  `postgres://postgres:${password}@${host}`
const brokerAs = (password: string, host = hostOf(inject("rabbitmq").stompUrl)) =>
  `stomp://guest:${password}@${host}`
const consuming = ["./handlers.js#query", "/topic/secrets", "--consumer", "secrets"]

/** Runs a program for so long at the most, and looks at everything that can be seen of it. */
const look = async (
  where: string,
  file: "cli.js" | "consumer.js" | "relay.js",
  args: ReadonlyArray<string>,
  variables: Readonly<Record<string, string>>,
  until: RegExp,
) => {
  const program = start(file, args, { OUTBOX_LOG_LEVEL: "debug", ...variables }, folder)
  let over = false
  void program.ended.then(() => {
    over = true
  })
  await eventually(() => assert.isTrue(over || until.test(program.stdout())), 20).catch(() => {})
  if (!over) {
    assertNoSecret(readFileSync(`/proc/${program.child.pid}/cmdline`, "utf8"), `${where}, in ps,`)
    program.child.kill("SIGTERM")
  }
  const { stdout, stderr } = await program.ended
  assert.match(stdout + stderr, until, where)
  assertNoSecret(stdout + stderr, where)
}

const good = () => ({ OUTBOX_DATABASE_URL: database.url, OUTBOX_BROKER_URL: inject("rabbitmq").stompUrl })

describe("a password is in nothing that is printed", () => {
  const commands = [
    ["relay.js", []],
    ["consumer.js", consuming],
    ["cli.js", ["status"]],
    ["cli.js", ["migrate"]],
    ["cli.js", ["dead", "list"]],
  ] as const

  it.each(commands)("when the database refuses it: %s %s", async (file, args) => {
    const variables = { ...good(), OUTBOX_DATABASE_URL: databaseAs(encoded) }
    await look("a wrong password", file, args, variables, /password authentication failed/)
  })

  it("when the database's URL is wrong, or its host is away", async () => {
    const [raw, away] = [databaseAs(SECRET), databaseAs(encoded, "127.0.0.1:1/d")]
    const variable = (OUTBOX_DATABASE_URL: string) => [["status"], { OUTBOX_DATABASE_URL }] as const
    await Promise.all(
      (
        [
          ["a raw password", ...variable(raw), /OUTBOX_DATABASE_URL .*percent-encoded/],
          ["no port", ...variable(`postgres://u:${encoded}@h:port/d`), /database URL is not one/],
          ["a host that is away", ...variable(away), /ECONNREFUSED/],
          ["a strange mode of TLS", ...variable(`${away}?sslmode=full`), /sslmode is "full"/],
          ["a flag", ["status", "--database-url", raw], {}, /--database-url .*percent-encoded/],
          ["no flag", ["status", raw], {}, /it takes no argument \(a URL\)/],
          ["a wrong flag", ["status", `--databse-url=${raw}`], {}, /there is no flag/],
          ["no command", [away], {}, /there is no command \(a URL\)/],
        ] as const
      ).map(([where, args, variables, words]) => look(where, "cli.js", args, variables, words)),
    )
  })

  it.each([
    ["relay.js", []],
    ["consumer.js", consuming],
  ] as const)("when the broker refuses it, is away or no broker: %s", async (file, args) => {
    const proxy = await startProxy(1, { tls: certificates.selfSigned() })
    cleanups.push(proxy.close)
    for (const [where, url, words] of [
      ["a wrong password", brokerAs(encoded), /refused the connection as/],
      ["a raw password", brokerAs(SECRET), /OUTBOX_BROKER_URL .*percent-encoded/],
      ["a host that is away", brokerAs(encoded, "127.0.0.1:1"), /ECONNREFUSED/],
      ["a strange certificate", `stomps://guest:${encoded}@localhost:${proxy.port}`, /not trusted/],
    ] as const)
      await look(where, file, args, { ...good(), OUTBOX_BROKER_URL: url }, words)
  })

  it("nor in the arguments of a process that was given it as a flag", async () => {
    const flags = ["--broker-url", brokerAs(encoded, "127.0.0.1:1"), "--database-url", database.url]
    await look("a relay", "relay.js", flags, {}, /ECONNREFUSED/)
    await look("a consumer", "consumer.js", [...consuming, ...flags], {}, /ECONNREFUSED/)
  })
})

it("the values of a handler's failed query are neither logged nor recorded", async () => {
  const client = await rawStomp(inject("rabbitmq").stompUrl)
  cleanups.push(async () => client.close())
  const program = start(
    "consumer.js",
    [...consuming, "--max-attempts", "1"],
    { ...good(), OUTBOX_LOG_LEVEL: "debug" },
    folder,
  )
  await eventually(() => assert.match(program.stdout(), /"subscribed"/), 20)
  await client.send("/topic/secrets", "{}", { "outbox-message-id": "m", "content-type": "application/json" })
  const [row] = await eventually(async () => {
    const rows = await database.sql`SELECT last_error FROM outbox.inbox WHERE state = 'dead'`
    assert.lengthOf(rows, 1)
    return rows
  }, 20)
  program.child.kill("SIGTERM")
  const { stdout, stderr } = await program.ended
  assert.match(stdout, /division by zero/)
  assertNoSecret(stdout + stderr, "the consumer")
  assertNoSecret(String(row?.["last_error"]), "last_error")
})
