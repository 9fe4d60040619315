import { randomUUID } from "node:crypto"
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { resolve } from "node:path"
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import { inject } from "vitest"
import { type ConsumerCommand, type ConsumerProcess, spawnConsumer } from "../support/consumer-process.ts"
import { createDatabase, type TestDatabase } from "../support/postgres.ts"
import { eventually } from "../support/relay.ts"
import { rawStomp } from "../support/stomp-client.ts"
import { cli, start } from "./program.ts"

/** Handlers as users write them; `drizzle-outbox` is this package. */
const MODULES: Readonly<Record<string, string>> = {
  "promise.mjs": `
    import { sql } from "drizzle-orm"
    import { Reject } from "drizzle-outbox/consumer"
    export const handleOrder = async ({ id, body, tx }) => {
      const [{ broken }] = await tx.execute(sql\`SELECT broken FROM world\`)
      if (broken) throw new Reject({ reason: "the world is broken" })
      await tx.execute(sql\`INSERT INTO effects (id, n) VALUES (\${id}, \${body.n})\`)
    }
    export default async () => {}
    export const limit = 3
  `,
  "effect.mjs": `
    import { sql } from "drizzle-orm"
    import { Transaction } from "drizzle-outbox"
    import { Effect } from "effect"
    export const handleOrder = ({ id, body }) =>
      Effect.gen(function* () {
        const { tx } = yield* Transaction
        yield* Effect.promise(() => tx.execute(sql\`INSERT INTO effects (id, n) VALUES (\${id}, \${body.n})\`))
      })
  `,
  "slow.mjs": `
    import { setTimeout as sleep } from "node:timers/promises"
    import { sql } from "drizzle-orm"
    export default async ({ id, body, tx }) => {
      console.log("handling " + body.n)
      await sleep(body.millis)
      await tx.execute(sql\`INSERT INTO effects (id, n) VALUES (\${id}, \${body.n})\`)
    }
  `,
  "common.cjs": `exports.handleOrder = async () => {}`,
  "throws.mjs": `throw new Error("no postgres://app:hunter2@db here\\nand no more")`,
  "syntax.mjs": `export const = 3`,
  "lacks.mjs": `import "no-such-package"`,
  "nothing.mjs": ``,
  "endless.mjs": `await new Promise(() => {})`,
  "typed.ts": `export const handleOrder = async (message: { id: string }): Promise<void> => {}`,
}

let folder: string
beforeAll(() => {
  mkdirSync("build", { recursive: true })
  folder = mkdtempSync(resolve("build/handlers-"))
  for (const [name, code] of Object.entries(MODULES)) writeFileSync(`${folder}/${name}`, code)
})
afterAll(() => rmSync(folder, { recursive: true }))

interface World extends TestDatabase {
  readonly destination: string
  readonly queue: string
  readonly variables: Record<string, string>
  /** A consumer that has subscribed. */
  readonly consume: (module: string, more?: Partial<ConsumerCommand>) => Promise<ConsumerProcess>
  readonly send: (...bodies: ReadonlyArray<object>) => Promise<void>
  readonly effects: () => Promise<ReadonlyArray<number>>
  readonly run: (...args: ReadonlyArray<string>) => ReturnType<typeof cli>
  readonly managed: () => Promise<{ readonly status: number; readonly messages: number | undefined }>
}

/** A database with the handlers' tables, and a topic of its own. What a failed test left is killed and deleted. */
const withWorld = async (test: (world: World) => Promise<void>) => {
  const database = await createDatabase()
  const { stompUrl, managementUrl } = inject("rabbitmq")
  const name = randomUUID().slice(0, 8)
  const [destination, consumer] = [`/topic/orders-${name}`, `billing-${name}`]
  const queue = `${consumer}.orders-${name}`
  const variables = {
    OUTBOX_DATABASE_URL: database.url,
    OUTBOX_BROKER_URL: stompUrl,
    OUTBOX_CONSUMER: consumer,
  }
  const started: ConsumerProcess[] = []
  const { username, password } = new URL(stompUrl.replace(/^stomp/, "http"))
  const api = (method: string) =>
    fetch(`${managementUrl}/api/queues/%2F/${queue}`, {
      method,
      headers: { authorization: `Basic ${btoa(`${username}:${password}`)}` },
    })
  await database.sql`CREATE TABLE effects (id text PRIMARY KEY, n integer NOT NULL)`
  await database.sql`CREATE TABLE world AS SELECT false AS broken`
  try {
    await test({
      ...database,
      destination,
      queue,
      variables,
      consume: async (module, more = {}) => {
        const process = spawnConsumer({
          module,
          destination,
          consumer,
          databaseUrl: database.url,
          brokerUrl: stompUrl,
          cwd: folder,
          ...more,
        })
        started.push(process)
        await eventually(
          () =>
            assert.isTrue(
              process.lines().some(({ message }) => message === "subscribed"),
              process.stderr(),
            ),
          30,
        )
        return process
      },
      send: async (...bodies) => {
        const client = await rawStomp(stompUrl)
        for (const body of bodies) {
          const headers = { "outbox-message-id": randomUUID(), "outbox-event": "orders", persistent: "true" }
          await client.send(destination, JSON.stringify(body), headers)
        }
        client.close()
      },
      effects: async () =>
        (await database.sql`SELECT n FROM effects ORDER BY n`).map((row) => row["n"] as number),
      run: (...args) => cli(args, variables),
      managed: async () => {
        const response = await api("GET")
        const { messages } = (await response.json()) as { messages?: number }
        return { status: response.status, messages }
      },
    })
  } finally {
    for (const process of started) process.kill("SIGKILL")
    await Promise.all(started.map(({ exited }) => exited))
    await api("DELETE")
    await database.drop()
  }
}

describe("consumer", () => {
  for (const module of ["./promise.mjs", "./effect.mjs"])
    it(`handles messages with ${module}, drains on SIGTERM and leaves its queue to the broker`, () =>
      withWorld(async ({ consume, send, effects, managed, sql }) => {
        const first = await consume(`${module}#handleOrder`)
        await send({ n: 1 }, { n: 2 })
        await eventually(async () => assert.deepStrictEqual(await effects(), [1, 2]))
        assert.strictEqual(await first.terminate(), 0)
        assert.strictEqual(first.stderr(), "")
        const lines = first.lines()
        assert.deepInclude(lines[0], { message: "consumer starting", order: "key" })
        assert.deepInclude(lines.at(-1), { level: "info", message: "consumer stopped", handled: 2, dead: 0 })
        assert.notInclude(JSON.stringify(lines), "guest:")

        await send({ n: 3 })
        assert.strictEqual((await managed()).status, 200)
        const second = await consume(`${module}#handleOrder`)
        await eventually(async () => assert.deepStrictEqual(await effects(), [1, 2, 3]))
        assert.strictEqual(await second.terminate(), 0)
        const [row] = await sql`SELECT count(*)::int AS n FROM outbox.inbox WHERE state = 'handled'`
        assert.strictEqual(row?.["n"], 3)
        assert.strictEqual((await managed()).status, 200)
      }))

  it("waits for the handler under way, and ends at once on the second signal", () =>
    withWorld(async ({ consume, send, effects, destination, variables }) => {
      const slow = await consume("./slow.mjs", { args: ["--drain-timeout", "20 s"] })
      await send({ n: 1, millis: 1000 })
      await eventually(() => assert.include(slow.stdout(), "handling 1"))
      assert.strictEqual(await slow.terminate(), 0)
      assert.deepStrictEqual(await effects(), [1])

      const stuck = start(
        "cli.js",
        ["subscribe", "./slow.mjs", destination, "--drain-timeout", "30 s"],
        variables,
        folder,
      )
      await send({ n: 2, millis: 30_000 })
      await eventually(() => assert.include(stuck.stdout(), "handling 2"))
      stuck.child.kill("SIGINT")
      await new Promise((resume) => setTimeout(resume, 300))
      assert.isNull(stuck.child.exitCode)
      stuck.child.kill("SIGINT")
      assert.strictEqual((await stuck.ended).code, 130)
      assert.deepStrictEqual(await effects(), [1])
    }))

  it("shows what is dead, and handles it after the handler was mended and it was requeued", () =>
    withWorld(async ({ consume, send, effects, run, sql, queue }) => {
      await sql`UPDATE world SET broken = true`
      const consumer = await consume("./promise.mjs#handleOrder", { env: { OUTBOX_CONSUMER_NAME: "first" } })
      await send({ n: 1 })
      const dead = async () => JSON.parse((await run("dead", "list", "--inbox", "--json")).stdout)
      const [message] = await eventually(async () => {
        const found = await dead()
        assert.strictEqual(found.length, 1)
        return found
      })
      assert.deepInclude(message, { queue, event: "orders", lastError: "the world is broken" })
      const shown = JSON.parse((await run("dead", "show", message.id, "--inbox", "--json")).stdout)
      assert.strictEqual(shown.body, '{"n":1}')
      await eventually(async () => {
        const { inbox } = JSON.parse((await run("status", "--json")).stdout)
        assert.deepInclude(inbox, { parked: 0, dead: 1 })
        const [status] = inbox.consumers
        assert.strictEqual(status.queue, queue)
        assert.deepInclude(status.instances[0], {
          name: "first",
          alive: true,
          connection: "connected",
          holds: true,
          paused: null,
          dead: 1,
        })
      })
      await sql`UPDATE world SET broken = false`
      assert.strictEqual((await run("dead", "requeue", "--inbox", "--all")).stdout, "1 message requeued\n")
      await eventually(async () => assert.deepStrictEqual(await effects(), [1]))
      assert.deepStrictEqual(await dead(), [])
      assert.strictEqual(await consumer.terminate(), 0)
      const { inbox } = JSON.parse((await run("status", "--json")).stdout)
      assert.deepStrictEqual(inbox.consumers, [])
    }))

  it("waits for a database that is away, and can be stopped meanwhile", () =>
    withWorld(async ({ url, variables, destination }) => {
      const { child, ended, stdout } = start(
        "consumer.js",
        ["./promise.mjs", destination],
        { ...variables, OUTBOX_DATABASE_URL: url.replace(/:\d+\//, ":1/") },
        folder,
      )
      await eventually(() => assert.match(stdout(), /"level":"warn".*could not connect to the database/))
      child.kill("SIGTERM")
      assert.strictEqual((await ended).code, 0)
    }))

  it("waits for a broker that is away, and can be stopped meanwhile", () =>
    withWorld(async ({ variables, destination }) => {
      const { child, ended, stdout } = start(
        "consumer.js",
        ["./promise.mjs", destination],
        { ...variables, OUTBOX_BROKER_URL: "stomp://app:hunter2@127.0.0.1:1" },
        folder,
      )
      await eventually(() => assert.match(stdout(), /"level":"warn".*ECONNREFUSED/))
      child.kill("SIGTERM")
      assert.strictEqual((await ended).code, 0)
      assert.notInclude(stdout(), "hunter2")
    }))

  const old = !(process.features as { typescript?: unknown }).typescript
  const wrong: ReadonlyArray<readonly [line: string, sentence: RegExp]> = [
    ["", /MODULE#EXPORT is missing: expected a module and the name of its export, such as /],
    [
      "./promise.mjs",
      /DESTINATION is missing: expected a destination; see drizzle-outbox subscribe --help\n$/,
    ],
    ["./none.mjs /topic/a", /subscribe: there is no module \/.*\/none\.mjs\n$/],
    ["none /topic/a", /there is neither a file nor a package "none" in \//],
    [
      "./promise.mjs#handelOrder /topic/a",
      /\.\/promise\.mjs has no export "handelOrder" \(did you mean handleOrder\?\): it exports default, handleOrder, limit\n$/,
    ],
    ["./effect.mjs /topic/a", /\.\/effect\.mjs has no export "default": it exports handleOrder\n$/],
    ["./nothing.mjs /topic/a", /has no export "default": it exports nothing\n$/],
    [
      "./promise.mjs#limit /topic/a",
      /"limit" of \.\/promise\.mjs is a number: expected the handler, a function\n$/,
    ],
    [
      "./throws.mjs /topic/a",
      /could not load \.\/throws\.mjs: no postgres:\/\/app:\*\*\*@db here and no more \(\/.*\/throws\.mjs:\d+:\d+\)\n$/,
    ],
    ["./syntax.mjs /topic/a", /could not load \.\/syntax\.mjs: SyntaxError: Unexpected token '='\n$/],
    ["./lacks.mjs /topic/a", /could not load \.\/lacks\.mjs: Cannot find package 'no-such-package' /],
    ["./endless.mjs /topic/a", /could not load \.\/endless\.mjs: it awaits something that never comes\n$/],
    ["./promise.mjs /topic/a q r", /it takes no argument "r"/],
    ["./promise.mjs /topic/a --parallel 0", /--parallel \(OUTBOX_PARALLEL\) is "0": expected a whole number/],
    ["./promise.mjs /topic/a --inbox-retention 1m", /`retention` \(1m\) is shorter than the 50 tries/],
    ...(old
      ? ([["./typed.ts /topic/a", /is TypeScript, which Node [\d.]+ does not run: build it first/]] as const)
      : []),
  ]
  it.each(wrong)("%s: exits 1 with one sentence", async (line, sentence) => {
    const { code, stderr } = await start(
      "consumer.js",
      line === "" ? [] : line.split(" "),
      {
        OUTBOX_CONSUMER: "billing",
        OUTBOX_DATABASE_URL: inject("postgres").replace(/\/postgres$/, "/outbox_template"),
        OUTBOX_BROKER_URL: "stomp://app:hunter2@127.0.0.1:1",
      },
      folder,
    ).ended
    assert.match(stderr, sentence)
    assert.strictEqual(code, 1)
    assert.match(stderr, /^drizzle-outbox subscribe: /)
    assert.strictEqual(stderr.trimEnd().split("\n").length, 1)
    assert.notInclude(stderr, "hunter2")
  })

  it.skipIf(old)("takes TypeScript where Node does", () =>
    withWorld(async ({ consume }) => {
      const consumer = await consume("./typed.ts#handleOrder")
      assert.strictEqual(await consumer.terminate(), 0)
      assert.strictEqual(consumer.stderr(), "")
    }),
  )

  it("exits 1 when a setting is missing, the broker refuses it or the tables are missing", () =>
    withWorld(async ({ variables, destination }) => {
      const refused = async (more: Record<string, string>, to = destination) => {
        const program = start(
          "consumer.js",
          ["./common.cjs#handleOrder", to],
          { ...variables, ...more },
          folder,
        )
        const { code, stdout, stderr } = await program.ended
        assert.strictEqual(code, 1, stdout)
        assert.strictEqual(stderr.trimEnd().split("\n").length, 1, stderr)
        assert.notInclude(stdout + stderr, "hunter2")
        return stderr
      }
      assert.match(await refused({ OUTBOX_CONSUMER: "" }), /OUTBOX_CONSUMER \(--consumer\) is missing/)
      assert.match(await refused({ OUTBOX_DATABASE_URL: "" }), /OUTBOX_DATABASE_URL .* is missing/)
      assert.match(await refused({ OUTBOX_BROKER_URL: "" }), /OUTBOX_BROKER_URL .* is missing/)
      assert.match(await refused({ OUTBOX_SCHEMA: "none" }), /schema "none" has no outbox tables: run /)
      const login = inject("rabbitmq").stompUrl.replace(/\/\/.*@/, "//guest:hunter2@")
      assert.match(await refused({ OUTBOX_BROKER_URL: login }), /refused the connection/)
      assert.match(
        await refused({}, "/exchange/no-such-exchange/x"),
        /^drizzle-outbox subscribe: the subscription to \/exchange\/no-such-exchange\/x was rejected: NOT_FOUND/,
      )
      assert.match(await refused({}, "/nowhere/a"), /the subscription to \/nowhere\/a was rejected: /)
    }))
})

describe("drizzle-outbox unsubscribe", () => {
  it("deletes the queue and its messages, when told so and nobody is subscribed; the inbox stays", () =>
    withWorld(async ({ consume, send, effects, run, managed, sql, destination, queue }) => {
      const consumer = await consume("./promise.mjs#handleOrder")
      await send({ n: 1 })
      await eventually(async () => assert.deepStrictEqual(await effects(), [1]))
      const used = await run("unsubscribe", destination, "--yes")
      assert.strictEqual(used.code, 1, used.stdout)
      assert.match(
        used.stderr,
        /^drizzle-outbox unsubscribe: .* consumes queue ".*, or was killed .*: stop it first, or say --force\n$/,
      )
      assert.strictEqual((await managed()).status, 200)
      await consumer.terminate()
      await send({ n: 2 })
      const unsure = await run("unsubscribe", destination)
      assert.strictEqual(unsure.code, 1)
      assert.strictEqual(
        unsure.stderr,
        `drizzle-outbox unsubscribe: this deletes queue "${queue}" of ${destination} and every message in it; the inbox stays: say so with --yes\n`,
      )
      assert.strictEqual((await managed()).status, 200)
      const { code, stdout, stderr } = await run("unsubscribe", destination, "--yes")
      assert.strictEqual(stderr, "")
      assert.strictEqual(code, 0)
      assert.strictEqual(
        stdout,
        `deleted queue "${queue}" of ${destination} and every message in it; the inbox stays\n`,
      )
      assert.strictEqual((await managed()).status, 404)
      const [row] = await sql`SELECT count(*)::int AS n FROM outbox.inbox`
      assert.strictEqual(row?.["n"], 1)
    }))

  it("refuses with the broker's words", async () => {
    const variables = { OUTBOX_BROKER_URL: inject("rabbitmq").stompUrl, OUTBOX_CONSUMER: "billing" }
    const { code, stderr } = await cli(["unsubscribe", "/queue/orders", "--yes", "--force"], variables)
    assert.strictEqual(code, 1)
    assert.match(
      stderr,
      /^drizzle-outbox unsubscribe: the subscription to \/queue\/orders cannot be deleted: RabbitMQ deletes a queue by its own tools only/,
    )
    const nobody = await cli(["unsubscribe", "/topic/orders", "--yes"], { ...variables, OUTBOX_CONSUMER: "" })
    assert.match(nobody.stderr, /OUTBOX_CONSUMER \(--consumer\) is missing/)
  })
})
