import { readFileSync } from "node:fs"
import { assert, describe, it } from "@effect/vitest"
import { createDatabase } from "../support/postgres.ts"
import { cli, start } from "./program.ts"

describe("drizzle-outbox", () => {
  it("shows its commands and its version", async () => {
    const { code, stdout, stderr } = await cli(["--help"])
    assert.strictEqual(code, 0)
    assert.strictEqual(stderr, "")
    for (const name of [
      "migrate",
      "relay",
      "subscribe",
      "unsubscribe",
      "status",
      "dead list",
      "dead show",
      "dead requeue",
      "dead discard",
    ])
      assert.match(stdout, new RegExp(`^  ${name} `, "m"))
    const { version } = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8"))
    assert.strictEqual((await cli(["--version"])).stdout, `${version}\n`)
  })

  it("shows the flags and variables of a command", async () => {
    const { code, stdout } = await cli(["relay", "--help"], { OUTBOX_WINDOW: "nonsense" })
    assert.strictEqual(code, 0)
    assert.match(stdout, /^ {2}--broker-url URL.*\n +OUTBOX_BROKER_URL\. /m)
    assert.match(stdout, /^ {2}--once\n/m)
    assert.isBelow(Math.max(...stdout.split("\n").map((line) => line.length)), 120)
  })

  it("shows the arguments of a command, those that must be given without brackets", async () => {
    const { stdout } = await cli(["subscribe", "--help"])
    assert.match(stdout, /^drizzle-outbox subscribe MODULE#EXPORT DESTINATION \[QUEUE\] \[flags\]\n/)
    assert.match(stdout, /^ {2}--consumer NAME\n +OUTBOX_CONSUMER\. /m)
    assert.notMatch(stdout, /--window|--relay-name/)
    assert.notMatch((await cli(["relay", "--help"])).stdout, /--consumer|--parallel/)
    assert.match(
      (await cli(["unsubscribe", "--help"])).stdout,
      /^drizzle-outbox unsubscribe DESTINATION \[QUEUE\] /,
    )
    assert.match((await cli(["dead", "show", "--help"])).stdout, /^drizzle-outbox dead show \[ID\[,ID…\]\] /)
  })

  const wrong: ReadonlyArray<readonly [string, RegExp]> = [
    ["", /^drizzle-outbox: no command is given; see drizzle-outbox --help\n$/],
    [
      "realy",
      /^drizzle-outbox: there is no command "realy" \(did you mean relay\?\); see drizzle-outbox --help\n$/,
    ],
    ["dead", /^drizzle-outbox: dead needs one of list, show, requeue, discard; /],
    ["dead requeu", /there is no command "dead requeu" \(did you mean dead requeue\?\)/],
    ["status --jsn", /^drizzle-outbox status: there is no flag "--jsn" \(did you mean --json\?\); /],
    ["status --json=1", /--json takes no value/],
    ["status --max-age", /--max-age needs a value: expected a duration/],
    ["status --max-age --json", /--max-age needs a value/],
    ["status --max-backlog few", /--max-backlog is "few": expected a whole number/],
    ["migrate now", /^drizzle-outbox migrate: it takes no argument "now"; /],
    [
      "status",
      /^drizzle-outbox status: OUTBOX_DATABASE_URL \(--database-url\) is missing: expected postgres:/,
    ],
    [
      "relay --database-url postgres://u:p@h/d",
      /OUTBOX_BROKER_URL \(--broker-url\) is missing: expected stomp:/,
    ],
    ["relay --window 0", /^drizzle-outbox relay: --window \(OUTBOX_WINDOW\) is "0": expected a whole number/],
  ]
  it.each(wrong)("%s: exits 1 with one sentence", async (line, sentence) => {
    const { code, stdout, stderr } = await cli(line === "" ? [] : line.split(" "))
    assert.strictEqual(code, 1)
    assert.strictEqual(stdout, "")
    assert.match(stderr, sentence)
    assert.strictEqual(stderr.trimEnd().split("\n").length, 1)
  })

  it("repeats no password, wherever it was put", async () => {
    const url = "postgres://app:hunter2@127.0.0.1:1/shop"
    for (const args of [
      [url],
      ["status", url],
      ["status", `--${url}`],
      ["status", "--schema", `${url}${"x".repeat(64)}`],
      ["status", "--database-url", url],
      ["migrate", "--database-url", url.replace("postgres", "mysql")],
    ]) {
      const { code, stdout, stderr } = await cli(args)
      assert.strictEqual(code, 1)
      assert.notInclude(stdout + stderr, "hunter2")
    }
  })

  it("takes flags where they differ from variables", async () => {
    const { stderr } = await cli(["status", "--database-url=postgres://a@127.0.0.1:1/b"], {
      OUTBOX_DATABASE_URL: "nonsense",
    })
    assert.match(stderr, /ECONNREFUSED/)
  })
})

describe("drizzle-outbox migrate", () => {
  it("creates the tables once, in the schema that it is given", async () => {
    const database = await createDatabase({ template: "none" })
    const variables = { OUTBOX_DATABASE_URL: database.url, OUTBOX_SCHEMA: "Team B" }
    const [first, second] = await Promise.all([cli(["migrate"], variables), cli(["migrate"], variables)])
    const said = [first.stdout, second.stdout].sort()
    assert.match(said[0] ?? "", /^schema "Team B" is now at version \d+ \(\d+ migrations? applied\)\n$/)
    assert.match(said[1] ?? "", /^schema "Team B" is up to date \(version \d+\)\n$/)
    const { stdout } = await cli(["status", "--json", "--schema", "Team B"], variables)
    assert.strictEqual(JSON.parse(stdout).schema, "Team B")
    await database.drop()
  })

  it("prints SQL without a database", async () => {
    const { code, stdout } = await cli(["migrate", "--print", "--schema", "billing"])
    assert.strictEqual(code, 0)
    assert.match(stdout, /CREATE TABLE "billing"\."messages"/)
    const database = await createDatabase({ template: "none" })
    await database.sql.unsafe(stdout)
    await database.drop()
  })

  it("ends quietly when its reader has gone", async () => {
    const { child, ended } = start("cli.js", ["migrate", "--print"])
    child.stdout?.destroy()
    assert.strictEqual((await ended).code, 0)
  })
})
