import { mkdtempSync, readFileSync, rmSync, statSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { inject } from "vitest"
import { createDatabase, type TestDatabase } from "../support/postgres.ts"
import { eventually, writeMessages } from "../support/relay.ts"
import { cli, type Program, start } from "./program.ts"

/** A database, and the variables of a relay on it with RabbitMQ. Relays that a failed test left are killed. */
const withRelay = async (
  test: (
    database: TestDatabase,
    variables: Record<string, string>,
    relay: (args?: ReadonlyArray<string>, more?: Record<string, string>) => Program,
  ) => Promise<void>,
) => {
  const database = await createDatabase()
  const programs: Program[] = []
  const variables = { OUTBOX_DATABASE_URL: database.url, OUTBOX_BROKER_URL: inject("rabbitmq").stompUrl }
  try {
    await test(database, variables, (args = [], more = {}) => {
      const program = start("relay.js", args, { ...variables, ...more })
      programs.push(program)
      return program
    })
  } finally {
    for (const { child } of programs) if (child.exitCode === null) child.kill("SIGKILL")
    await database.drop()
  }
}

const publishedCount = async ({ sql }: TestDatabase) => {
  const [row] = await sql`SELECT count(*)::int AS n FROM outbox.messages WHERE published_at IS NOT NULL`
  return row?.["n"] as number
}

const lines = (output: string) =>
  output
    .trim()
    .split("\n")
    .map(
      (line) =>
        JSON.parse(line) as { time: string; level: string; message: string } & Record<string, unknown>,
    )

describe("relay", () => {
  it("publishes until SIGTERM, and exits 0 with its lanes given back", () =>
    withRelay(async (database, _, relay) => {
      await writeMessages(database.sql, { count: 200, keys: 20, body: "top secret body" })
      const { child, ended, stdout } = relay()
      await eventually(async () => assert.strictEqual(await publishedCount(database), 200))
      const stopped = performance.now()
      child.kill("SIGTERM")
      const { code, stderr } = await ended
      assert.isBelow(performance.now() - stopped, 2000)
      assert.strictEqual(code, 0)
      assert.strictEqual(stderr, "")
      const [left] =
        await database.sql`SELECT count(*)::int AS n FROM outbox.lanes WHERE relay_id IS NOT NULL`
      assert.strictEqual(left?.["n"], 0)
      const logged = lines(stdout())
      assert.strictEqual(logged[0]?.message, "relay starting")
      assert.deepInclude(logged.at(-1), { level: "info", message: "relay stopped", published: 200 })
      assert.notInclude(stdout(), "secret")
      assert.notInclude(stdout(), "guest")
    }))

  it("is the same as `drizzle-outbox relay`, and is shown by status", () =>
    withRelay(async (_, variables) => {
      const program = start("cli.js", ["relay", "--relay-name", "first"], variables)
      await eventually(async () => {
        const { relays } = JSON.parse((await cli(["status", "--json"], variables)).stdout)
        assert.deepInclude(relays[0], { name: "first", alive: true })
        assert.strictEqual(relays[0].lanes.length, 64)
        assert.strictEqual(relays[0].broker.state, "connected")
        assert.match(relays[0].broker.server, /^RabbitMQ/)
        assert.isAbove(relays[0].leaseLeftSeconds, 0)
      }, 30)
      program.child.kill("SIGINT")
      assert.strictEqual((await program.ended).code, 0)
    }))

  it("ends at once on the second signal", () =>
    withRelay(async ({ sql }, variables, relay) => {
      // Nobody confirms on this connection, so the first signal waits for its drain.
      const { createServer } = await import("node:net")
      const silent = createServer((socket) => {
        socket.on("error", () => {})
        socket.once("data", () => socket.write("CONNECTED\nversion:1.2\nheart-beat:0,0\n\n\0"))
      })
      await new Promise<void>((resolve) => silent.listen(0, "127.0.0.1", resolve))
      const { port } = silent.address() as { port: number }
      await writeMessages(sql, { count: 3 })
      for (const [signal, expected] of [
        ["SIGINT", 130],
        ["SIGTERM", 143],
      ] as const) {
        const { child, ended, stdout } = relay(["--drain-timeout", "30 s", "--lease", "1 s"], {
          ...variables,
          OUTBOX_BROKER_URL: `stomp://guest:guest@127.0.0.1:${port}`,
        })
        await eventually(() => assert.include(stdout(), "lanes taken"))
        await new Promise((resolve) => setTimeout(resolve, 500))
        child.kill(signal)
        await new Promise((resolve) => setTimeout(resolve, 300))
        assert.isNull(child.exitCode)
        child.kill(signal)
        assert.strictEqual((await ended).code, expected)
      }
      silent.close()
    }))

  it("--once drains and ends", () =>
    withRelay(async (database, _, relay) => {
      await writeMessages(database.sql, { count: 50 })
      await database.sql`UPDATE outbox.messages SET available_at = now() + interval '1 h' WHERE position = 50`
      const { code, stderr } = await relay(["--once"]).ended
      assert.strictEqual(stderr, "")
      assert.strictEqual(code, 0)
      assert.strictEqual(await publishedCount(database), 49)
    }))

  it("--once exits 1 when something is held, and names status", () =>
    withRelay(async (database, _, relay) => {
      await writeMessages(database.sql, { count: 5 })
      await writeMessages(database.sql, { count: 2, destination: "/exchange/missing/x" })
      const { code, stderr } = await relay(["--once"]).ended
      assert.strictEqual(code, 1)
      assert.match(stderr, /^drizzle-outbox relay: 2 messages pending, held .*: see drizzle-outbox status\n$/)
      assert.strictEqual(await publishedCount(database), 5)
    }))

  it("touches the liveness file while it is healthy", () =>
    withRelay(async (_database, _, relay) => {
      const folder = mkdtempSync(join(tmpdir(), "outbox-liveness-"))
      const file = join(folder, "alive")
      const { child, ended } = relay([], { OUTBOX_LIVENESS_FILE: file })
      await eventually(() => assert.match(readFileSync(file, "utf8"), /^\d{4}-/))
      const first = statSync(file).mtimeMs
      await eventually(() => assert.isAbove(statSync(file).mtimeMs, first))
      child.kill()
      await ended
      rmSync(folder, { recursive: true })
    }))

  it("understands the variables of django-outbox-pattern's users", () =>
    withRelay(async (database, _, relay) => {
      await writeMessages(database.sql, { count: 1 })
      const { port, username, password } = new URL(inject("rabbitmq").stompUrl.replace(/^stomp/, "http"))
      const { code } = await relay(["--once"], {
        OUTBOX_BROKER_URL: "",
        STOMP_HOST: "127.0.0.1",
        STOMP_PORT: port,
        STOMP_USERNAME: username,
        STOMP_PASSCODE: password,
      }).ended
      assert.strictEqual(code, 0)
      assert.strictEqual(await publishedCount(database), 1)
    }))

  it("exits 1 with one sentence when the login is refused, the tables are missing or --once reaches nobody", () =>
    withRelay(async (database, _, relay) => {
      const refused = await relay([], {
        OUTBOX_BROKER_URL: inject("rabbitmq").stompUrl.replace(/\/\/.*@/, "//guest:hunter2@"),
      }).ended
      assert.strictEqual(refused.code, 1)
      assert.match(refused.stderr, /^drizzle-outbox relay: .*refused the connection.*\n$/)
      assert.notInclude(refused.stderr + refused.stdout, "hunter2")
      const missing = await relay(["--schema", "elsewhere"]).ended
      assert.strictEqual(missing.code, 1)
      assert.match(
        missing.stderr,
        /schema "elsewhere" has no outbox tables: run "drizzle-outbox migrate --schema elsewhere"\n$/,
      )
      const away = await relay(["--once"], {
        OUTBOX_DATABASE_URL: database.url.replace(/:\d+\//, ":1/"),
      }).ended
      assert.strictEqual(away.code, 1)
      assert.match(away.stderr, /could not connect to the database/)
      const nobody = await relay(["--once"], { OUTBOX_BROKER_URL: "stomp://a:hunter2@127.0.0.1:1" }).ended
      assert.strictEqual(nobody.code, 1)
      assert.match(nobody.stderr, /^drizzle-outbox relay: stomp:\/\/127\.0\.0\.1:1: .*ECONNREFUSED.*\n$/)
    }))

  it("waits for a database that is away, and can be stopped meanwhile", () =>
    withRelay(async (database, _, relay) => {
      const { child, ended, stdout } = relay([], {
        OUTBOX_DATABASE_URL: database.url.replace(/:\d+\//, ":1/"),
      })
      await eventually(() => assert.match(stdout(), /"level":"warn".*could not connect to the database/))
      child.kill("SIGTERM")
      assert.strictEqual((await ended).code, 0)
    }))
})
