/** The roles of docs/security.md: with its grants, word for word, everything works, and nothing more. */
import { randomBytes } from "node:crypto"
import { readFileSync } from "node:fs"
import { sql as raw } from "drizzle-orm"
import { pgTable, text } from "drizzle-orm/pg-core"
import { drizzle } from "drizzle-orm/postgres-js"
import { Context, Effect, Layer } from "effect"
import postgres from "postgres"
import { afterAll, afterEach, assert, describe, inject, it } from "vitest"
import { Inbox, layerPostgres as inboxLayer } from "../../src/inbox/index.ts"
import { defineOutbox } from "../../src/index.ts"
import { migrate } from "../../src/store/migrate.ts"
import { layerPostgres } from "../../src/store/postgres.ts"
import { quoteSchema } from "../../src/store/schema-name.ts"
import { OutboxStore } from "../../src/store/store.ts"
import { cli, start } from "../cli/program.ts"
import { type InboxHarness, inboxSuite } from "../suites/inbox.ts"
import { storeSuite } from "../suites/store.ts"
import { createDatabase, type TestDatabase } from "../support/postgres.ts"
import { eventually } from "../support/relay.ts"
import { rawStomp } from "../support/stomp-client.ts"
import { beginOn } from "../support/store-transaction.ts"

const suffix = randomBytes(4).toString("hex")
const PASSWORD = "role"
/** `service` writes and consumes; `bare` has no grant at all. */
const roles = ["writer", "relay", "consumer", "status", "operator", "service", "bare"] as const
type Role = (typeof roles)[number]
const nameOf = (role: Role) => `t_${role}_${suffix}`

const page = readFileSync(new URL("../../docs/security.md", import.meta.url), "utf8")
const grants = /^```sql\n(.*?)^```$/ms.exec(page)?.[1] ?? ""
const grantsFor = (schema: string) =>
  grants
    .replaceAll('"outbox"', () => quoteSchema(schema))
    .replace(/\bapp_(\w+)/g, (_, role: Role) => nameOf(role))

let made = false
/** Roles belong to the whole server. */
const makeRoles = async (sql: postgres.Sql) => {
  if (made) return
  made = true
  for (const role of roles) await sql.unsafe(`CREATE ROLE ${nameOf(role)} LOGIN PASSWORD '${PASSWORD}'`)
  await sql.unsafe(`GRANT ${nameOf("writer")}, ${nameOf("consumer")} TO ${nameOf("service")}`)
}

const as = ({ url }: { readonly url: string }, role: Role): string =>
  url.replace(/\/\/[^@]*@/, `//${nameOf(role)}:${PASSWORD}@`)

/** A migrated database in which the roles have their grants. */
const grantedDatabase = async (): Promise<TestDatabase> => {
  const database = await createDatabase()
  await makeRoles(database.sql)
  await database.sql.unsafe(grantsFor("outbox"))
  return database
}

afterAll(async () => {
  await (await shared)?.drop()
  const sql = postgres(inject("postgres"), { max: 1, onnotice: () => {} })
  if (made) for (const role of roles) await sql.unsafe(`DROP ROLE ${nameOf(role)}`)
  await sql.end()
})

const cleanups: Array<() => Promise<unknown>> = []
afterEach(async () => {
  for (const clean of cleanups.splice(0).reverse()) await clean()
})

const open = (url: string) => {
  const sql = postgres(url, { max: 2, onnotice: () => {} })
  cleanups.push(() => sql.end())
  return sql
}
const granted = async () => {
  const database = await grantedDatabase()
  cleanups.push(database.drop)
  return database
}
const failure = (promise: PromiseLike<unknown>): Promise<string> =>
  Promise.resolve(promise).then(
    () => assert.fail("it was allowed"),
    (error: Error) => String((error.cause as Error | undefined)?.message ?? error.message),
  )

/** One database, empty again for each test: to make one takes longer than most of them. */
let shared: Promise<TestDatabase> | undefined
const emptied = Effect.promise(async () => {
  shared ??= grantedDatabase()
  const database = await shared
  await database.sql.unsafe(`
    TRUNCATE outbox.messages, outbox.relays, outbox.inbox, outbox.consumers, outbox.subscriptions RESTART IDENTITY;
    UPDATE outbox.lanes SET relay_id = NULL, token = 0`)
  return database
})

storeSuite(
  "as the role of a relay",
  Effect.gen(function* () {
    const database = yield* emptied
    const context = yield* Effect.orDie(Layer.build(layerPostgres({ url: as(database, "relay") })))
    return {
      store: Context.get(context, OutboxStore),
      begin: beginOn(database.url),
      wait: (millis) => Effect.sleep(millis),
      states: Effect.promise(async () => {
        const rows = await database.sql`SELECT * FROM outbox.messages ORDER BY position`
        return rows.map((row) => ({
          position: Number(row["position"]),
          state: row["published_at"] !== null ? "published" : row["dead_at"] !== null ? "dead" : "pending",
          attempts: row["attempts"],
          lastError: row["last_error"],
        }))
      }),
    }
  }),
)

inboxSuite(
  "as the roles of a consumer and a writer",
  Effect.gen(function* () {
    const database = yield* emptied
    const client = yield* Effect.acquireRelease(
      Effect.sync(() => postgres(as(database, "service"), { onnotice: () => {} })),
      (sql) => Effect.promise(() => sql.end()),
    )
    const { sql } = database
    return {
      inbox: Context.get(yield* Layer.build(inboxLayer(drizzle({ client }))), Inbox),
      wait: (millis) => Effect.sleep(millis),
      rows: Effect.promise(
        () => sql`
          SELECT consumer, message_id AS id, state, attempts, started, available_at IS NOT NULL AS due, last_error AS "lastError"
          FROM outbox.inbox ORDER BY position`,
      ),
      emitted: Effect.promise(async () => {
        const rows = await sql`SELECT destination FROM outbox.messages ORDER BY position`
        return rows.map((row) => row["destination"] as string)
      }),
    } as InboxHarness
  }),
)

const notes = pgTable("notes", { note: text().primaryKey() })

describe("a writer", () => {
  it("writes by withOutbox, emit, outbox.emit and INSERT", async () => {
    const database = await granted()
    await database.sql.unsafe(
      `CREATE TABLE notes (note text PRIMARY KEY); GRANT SELECT, INSERT ON notes TO ${nameOf("writer")}`,
    )
    const sql = open(as(database, "writer"))
    const { withOutbox, emit } = defineOutbox({
      notes: { table: notes, destination: "/topic/notes" },
      said: { destination: "/topic/said", serializer: (said: string) => said },
    })
    await drizzle(sql).transaction(async (tx) => {
      await withOutbox(tx, notes, { note: "a" })
      await emit(tx, "said", "b")
      await tx.execute(raw`SELECT outbox.emit('e', '/topic/e', 'c', version => 'v1')`)
    })
    await sql`INSERT INTO outbox.messages (event, operation, destination, body) VALUES ('e', 'emit', '/topic/e', 'd')`
    const rows = await database.sql`SELECT body, lane FROM outbox.messages ORDER BY position`
    assert.deepStrictEqual(
      rows.map(({ body }) => body),
      ['{"note":"a"}', '"b"', "c", "d"],
    )
  })

  it("reads nobody's messages, changes none, and makes no table", async () => {
    const database = await granted()
    await database.sql`SELECT outbox.emit('e', '/topic/e', 'secret')`
    const sql = open(as(database, "writer"))
    for (const statement of [
      "SELECT body FROM outbox.messages",
      "SELECT * FROM outbox.messages",
      "UPDATE outbox.messages SET published_at = NULL",
      "UPDATE outbox.messages SET body = 'mine'",
      "DELETE FROM outbox.messages",
      "TRUNCATE outbox.messages",
      "INSERT INTO outbox.messages (event, operation, destination, body, published_at) VALUES ('e', 'emit', '/q', 'b', now())",
      "SELECT * FROM outbox.inbox",
      "UPDATE outbox.lanes SET token = 9",
      "CREATE TABLE outbox.mine ()",
      "ALTER TABLE outbox.messages DISABLE TRIGGER ALL",
      "CREATE OR REPLACE FUNCTION outbox.uuid_v7() RETURNS uuid LANGUAGE sql AS 'SELECT gen_random_uuid()'",
    ])
      assert.match(await failure(sql.unsafe(statement)), /permission denied|must be owner/, statement)
  })
})

describe("nobody", () => {
  it("of the others changes what a message says, or makes a table", async () => {
    const database = await granted()
    for (const role of ["relay", "consumer", "status", "operator"] as const) {
      const sql = open(as(database, role))
      for (const statement of [
        "UPDATE outbox.messages SET body = 'mine'",
        "UPDATE outbox.messages SET destination = '/queue/mine'",
        "INSERT INTO outbox.messages (event, operation, destination, body) VALUES ('e', 'emit', '/q', 'b')",
        "CREATE TABLE outbox.mine ()",
      ])
        assert.match(await failure(sql.unsafe(statement)), /permission denied/, `${role}: ${statement}`)
    }
    const status = open(as(database, "status"))
    for (const column of ["body", "headers", "body_bytes"])
      assert.match(await failure(status.unsafe(`SELECT ${column} FROM outbox.messages`)), /permission denied/)
    assert.match(await failure(status`SELECT body FROM outbox.inbox`), /permission denied/)
  })

  it("of them works without its grants, and all say so in one sentence", async () => {
    const { url } = await granted()
    const variables = {
      OUTBOX_DATABASE_URL: as({ url }, "bare"),
      OUTBOX_BROKER_URL: inject("rabbitmq").stompUrl,
    }
    for (const args of [["status"], ["dead", "list"], ["relay", "--once"], ["migrate"]]) {
      const { code, stderr } = await cli(args, variables)
      assert.match(stderr, /permission denied for \w+ .*; docs\/security\.md has the grants/, args.join(" "))
      assert.strictEqual(stderr.trim().split("\n").length, 1, stderr)
      assert.strictEqual(code, 1)
    }
  })
})

describe("the programs", () => {
  it("need no more than their grants, whatever the schema's name", async () => {
    const schema = "od\"d $$ sch'ema"
    const database = await createDatabase({ template: "none" })
    cleanups.push(database.drop)
    await makeRoles(database.sql)
    await Effect.runPromise(migrate(database.sql, schema))
    await database.sql.unsafe(grantsFor(schema))
    // Sequences of schemas that the relay may not even look into.
    await database.sql.unsafe("CREATE SCHEMA private; CREATE SEQUENCE private.hidden")
    const quoted = quoteSchema(schema)
    const emit = (destination: string) =>
      database.sql.unsafe(`SELECT ${quoted}.emit('e', $1, 'b', 'k')`, [destination])
    const program = (role: Role) => ({
      OUTBOX_DATABASE_URL: as(database, role),
      OUTBOX_BROKER_URL: inject("rabbitmq").stompUrl,
      OUTBOX_SCHEMA: schema,
    })
    const topic = `/topic/roles-${suffix}`
    const client = await rawStomp(inject("rabbitmq").stompUrl)
    const bodies: string[] = []
    await client.subscribe(topic, ({ body }, ack) => {
      bodies.push(body.toString())
      ack()
    })
    await emit("/nope/x")
    await emit(topic)
    const relay = start("relay.js", [], { ...program("relay"), OUTBOX_LISTEN: "on", OUTBOX_RETENTION: "0" })
    await eventually(() => assert.deepStrictEqual(bodies, ["b"]))
    await eventually(async () => {
      const status = await cli(["status", "--json"], program("status"))
      assert.deepStrictEqual([status.stderr, JSON.parse(status.stdout).heldDestinations.length], ["", 1])
    }, 30)
    relay.child.kill("SIGTERM")
    const ended = await relay.ended
    assert.strictEqual(ended.code, 0, ended.stdout + ended.stderr)
    assert.notMatch(ended.stdout, /permission denied/)
    client.close()
    await database.sql.unsafe(
      `UPDATE ${quoted}.messages SET dead_at = now(), attempts = 3, last_error = 'why'`,
    )
    await database.sql.unsafe(
      `SELECT ${quoted}.inbox_bury('c', 'q', 'm' || n, '/topic/a', NULL, '{}', 'b', 1, 'why', true) FROM generate_series(1, 2) n`,
    )
    for (const place of [[], ["--inbox"]])
      for (const [words, expected] of [
        [["list"], /why/],
        [["requeue", "--all", "--limit", "1"], /1 message requeued/],
        [["discard", "--all"], place.length === 0 ? /0 messages discarded/ : /1 message discarded/],
      ] as const) {
        const { stdout, stderr } = await cli(["dead", ...words, ...place], program("operator"))
        assert.match(stdout, expected, `${words[0]} ${place}: ${stderr}`)
      }
  })
})
