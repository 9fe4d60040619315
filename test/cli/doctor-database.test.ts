/** The doctor's findings in the database: each is there with its cause, and nothing is found without one. */
import { randomUUID } from "node:crypto"
import { assert, describe, inject, it } from "@effect/vitest"
import { Duration, Effect } from "effect"
import postgres from "postgres"
import type { ExamineOptions } from "../../src/cli/doctor/examine.ts"
import { migrate } from "../../src/store/migrate.ts"
import { startPostgres } from "../support/embedded-postgres.ts"
import { startPgBouncer } from "../support/pgbouncer.ts"
import { createDatabase, type TestDatabase } from "../support/postgres.ts"
import { writeMessages } from "../support/relay.ts"
import { doctor, doctorProgram } from "./doctor-run.ts"
import { cli } from "./program.ts"

/** The server of the tests may lose its data. */
const ALWAYS = ["database.durability", "topology.route"]

const variables = (url: string): Record<string, string> => ({
  OUTBOX_DATABASE_URL: url,
  OUTBOX_BROKER_URL: inject("rabbitmq").stompUrl,
})

const withDatabase = async (test: (database: TestDatabase) => Promise<void>) => {
  const database = await createDatabase()
  try {
    await test(database)
  } finally {
    await database.drop()
  }
}

it("finds nothing where all is well, and says what it looked at", () =>
  withDatabase(async ({ url, sql }) => {
    await writeMessages(sql, { count: 3 })
    await sql`UPDATE outbox.messages SET published_at = now()`
    const { code, checks, stderr } = await doctorProgram(variables(url))
    assert.deepStrictEqual(checks, ALWAYS)
    assert.strictEqual(stderr, "")
    assert.strictEqual(code, 0)
    const { stdout } = await cli(["doctor"], variables(url))
    for (const line of [
      /^ok +PostgreSQL \d+\.\d+: connected as "postgres"$/m,
      /^ok +schema "outbox": at version \d+, as it should be$/m,
      /^ok +indexes: all 9 and the primary keys are there and valid$/m,
      /^ok +storage settings: as the migrations set them$/m,
      /^ok +clocks of this machine and the database: agree to \d+ ms$/m,
      /^ok +stomp:\/\/127\.0\.0\.1:\d+: RabbitMQ\/\S+, virtual host "\/"$/m,
      /^ok +stomp:\/\/127\.0\.0\.1:\d+: drops a client that was silent for 9\.5 s$/m,
      /^-- +1 destination: where they lead was not checked.* \[topology\.route\]\n +→ RabbitMQ: set OUTBOX_BROKER_MANAGEMENT_URL/m,
    ])
      assert.match(stdout.replace(/\n {10}(?!→)/g, " "), line)
  }))

const open = async (url: string, statement: string) => {
  const sql = postgres(url, { max: 1, onnotice: () => {}, connection: { application_name: "shop" } })
  const held = await sql.reserve()
  await held.unsafe(`BEGIN; ${statement}`)
  return async () => {
    await held.unsafe("ROLLBACK")
    held.release()
    await sql.end()
  }
}

const run = async (sql: postgres.Sql, ...statements: ReadonlyArray<string>) => {
  for (const statement of statements) await sql.unsafe(statement)
}

/** On one connection, whose end reports what it did to the statistics. */
const alone = async (url: string, work: (sql: postgres.Sql) => Promise<void>) => {
  const sql = postgres(url, { max: 1, onnotice: () => {} })
  await work(sql)
  await sql.end()
}

const cases: ReadonlyArray<{
  readonly title: string
  /** Gives a function that ends it, where a dropped database does not. */
  readonly cause: (database: TestDatabase) => Promise<unknown>
  readonly options?: Partial<ExamineOptions>
  readonly level: "warning" | "problem"
  readonly check: string
  readonly where: RegExp
  readonly what: RegExp
  readonly remedy: RegExp
}> = [
  {
    title: "a missing index",
    cause: ({ sql }) => run(sql, "DROP INDEX outbox.messages_ready"),
    level: "problem",
    check: "database.index",
    where: /^index outbox\.messages_ready$/,
    what: /is missing/,
    remedy:
      /^CREATE INDEX CONCURRENTLY "messages_ready" ON "outbox"\."messages" \("position"\) WHERE .* IS NULL;$/,
  },
  {
    title: "an invalid index",
    cause: async ({ sql }) => {
      await run(sql, "DROP INDEX outbox.inbox_due")
      // As it is left behind by a build that failed.
      await run(
        sql,
        "INSERT INTO outbox.inbox (consumer, message_id, queue, destination, state) VALUES ('c', '1', 'q', 'd', 'parked'), ('c', '2', 'q', 'd', 'parked')",
      )
      await sql.unsafe("CREATE UNIQUE INDEX CONCURRENTLY inbox_due ON outbox.inbox (consumer)").then(
        () => assert.fail("it was built"),
        () => {},
      )
    },
    level: "problem",
    check: "database.index",
    where: /^index outbox\.inbox_due$/,
    what: /is invalid/,
    remedy: /^REINDEX INDEX CONCURRENTLY "outbox"\."inbox_due";$/,
  },
  {
    title: "a missing primary key",
    cause: ({ sql }) => run(sql, "ALTER TABLE outbox.inbox DROP CONSTRAINT inbox_pkey"),
    level: "problem",
    check: "database.index",
    where: /^table outbox\.inbox$/,
    what: /no primary key/,
    remedy: /migrate --print/,
  },
  {
    title: "no tables",
    cause: ({ sql }) => run(sql, "DROP SCHEMA outbox CASCADE"),
    level: "problem",
    check: "database.schema",
    where: /^schema "outbox"$/,
    what: /^has no outbox tables$/,
    remedy: /^run "drizzle-outbox migrate"$/,
  },
  {
    title: "tables of an older version",
    cause: ({ sql }) => run(sql, "DELETE FROM outbox.migrations WHERE version > 1"),
    level: "problem",
    check: "database.schema",
    where: /^schema "outbox"$/,
    what: /^is at version 1 and this program needs \d+$/,
    remedy: /migrate/,
  },
  {
    title: "a sequence with a cache",
    cause: ({ sql }) => run(sql, "ALTER TABLE outbox.messages ALTER COLUMN position SET CACHE 20"),
    level: "problem",
    check: "database.sequence",
    where: /outbox\.messages\.position/,
    what: /has CACHE 20/,
    remedy: /SET CACHE 1;$/,
  },
  {
    title: "storage settings that were lost",
    cause: ({ sql }) =>
      run(sql, "ALTER TABLE outbox.messages RESET (vacuum_truncate, autovacuum_vacuum_scale_factor)"),
    level: "warning",
    check: "database.storage",
    where: /^table outbox\.messages$/,
    what: /autovacuum_vacuum_scale_factor \(not set\), vacuum_truncate \(not set\); a vacuum that truncates locks/,
    remedy:
      /^ALTER TABLE "outbox"\."messages" SET \(autovacuum_vacuum_scale_factor = 0\.01, vacuum_truncate = off\);$/,
  },
  {
    title: "commits that are not durable",
    cause: async ({ sql }) => {
      const [row] = await sql`SELECT current_database() AS name`
      await run(sql, `ALTER DATABASE ${row?.["name"]} SET synchronous_commit = off`)
    },
    level: "warning",
    check: "database.durability",
    where: /^synchronous_commit$/,
    what: /is off/,
    remedy: /synchronous_commit = on/,
  },
  {
    title: "a database that takes no writes",
    cause: async ({ sql }) => {
      const [row] = await sql`SELECT current_database() AS name`
      await run(sql, `ALTER DATABASE ${row?.["name"]} SET default_transaction_read_only = on`)
    },
    level: "problem",
    check: "database.standby",
    where: /^PostgreSQL/,
    what: /read-only/,
    remedy: /RESET default_transaction_read_only/,
  },
  {
    title: "a long transaction",
    cause: ({ url }) => open(url, "SELECT 1"),
    options: { longTransaction: Duration.zero },
    level: "problem",
    check: "database.long-transaction",
    where: /^transaction of pid \d+ \(shop\)$/,
    what: /^open for .* as "postgres", idle in transaction; vacuum removes nothing/,
    remedy: /pg_terminate_backend\(\d+\)/,
  },
  {
    title: "a transaction that wrote an event and stays open",
    cause: ({ url }) => open(url, "SELECT outbox.emit('e', '/topic/t', '{}')"),
    options: { longTransaction: Duration.zero },
    level: "problem",
    check: "database.open-writer",
    where: /^transaction of pid \d+ \(shop\)$/,
    what: /it has written to the outbox/,
    remedy: /pg_terminate_backend/,
  },
  {
    title: "a prepared transaction",
    cause: async ({ url, sql }) => {
      const gid = `it's ${randomUUID()}`.replaceAll("'", "''")
      const end = await open(url, `SELECT outbox.emit('e', '/topic/t', '{}'); PREPARE TRANSACTION '${gid}'`)
      await end()
      return () => sql.unsafe(`ROLLBACK PREPARED '${gid}'`)
    },
    options: { longTransaction: Duration.zero },
    level: "problem",
    check: "database.prepared",
    where: /^prepared transaction "it's /,
    what: /keeps its locks/,
    remedy: /ROLLBACK PREPARED 'it''s /,
  },
  {
    title: "a replication slot that nobody reads",
    cause: async ({ sql }) => {
      await sql`SELECT pg_create_physical_replication_slot('doctor_test', true)`
      return () => sql`SELECT pg_drop_replication_slot('doctor_test')`
    },
    level: "warning",
    check: "database.slot",
    where: /^physical replication slot doctor_test$/,
    what: /keeps WAL/,
    remedy: /pg_drop_replication_slot\('doctor_test'\)/,
  },
  {
    title: "a table without autovacuum",
    cause: ({ sql }) => run(sql, "ALTER TABLE outbox.messages SET (autovacuum_enabled = off)"),
    level: "problem",
    check: "database.autovacuum",
    where: /^table outbox\.messages$/,
    what: /switched off/,
    remedy: /RESET \(autovacuum_enabled\)/,
  },
  {
    title: "a big table that was never vacuumed",
    cause: ({ url }) =>
      alone(url, async (sql) => {
        await run(sql, "ALTER TABLE outbox.messages SET (autovacuum_enabled = off)")
        await writeMessages(sql, { count: 110_000 })
        await run(sql, "UPDATE outbox.messages SET published_at = now()")
      }),
    level: "problem",
    check: "database.never-vacuumed",
    where: /^table outbox\.messages$/,
    what: /^has about 220,000 rows and was never vacuumed$/,
    remedy: /^VACUUM ANALYZE "outbox"\."messages"/,
  },
  {
    title: "row versions that vacuum cannot remove",
    cause: async ({ url }) => {
      const snapshot =
        "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM outbox.messages LIMIT 1"
      await alone(url, async (sql) => {
        await run(sql, "ALTER TABLE outbox.messages SET (autovacuum_enabled = off)")
        await writeMessages(sql, { count: 60_000 })
      })
      const end = await open(url, snapshot)
      await alone(url, (sql) =>
        run(sql, "UPDATE outbox.messages SET published_at = now()", "VACUUM outbox.messages"),
      )
      return end
    },
    level: "problem",
    check: "database.dead-rows",
    where: /^table outbox\.messages$/,
    what: /^has \d+0,000 row versions that vacuum should have removed beside 60,000 that live$/,
    remedy: /VACUUM \(VERBOSE\)/,
  },
  {
    title: "pending messages and no relay",
    cause: ({ sql }) => writeMessages(sql, { count: 2 }),
    level: "problem",
    check: "backlog.no-relay",
    where: /^relays$/,
    what: /^none is alive to send what is due: 2 messages, the oldest for/,
    remedy: /drizzle-outbox relay/,
  },
  {
    title: "a message that has waited for long, a relay being there",
    cause: async ({ sql }) => {
      await writeMessages(sql, { count: 2 })
      await run(
        sql,
        "UPDATE outbox.messages SET created_at = now() - interval '10 minutes'",
        "INSERT INTO outbox.relays (id, name, expires_at) VALUES (gen_random_uuid(), 'r', now() + interval '1 minute')",
      )
    },
    level: "warning",
    check: "backlog.old",
    where: /^backlog$/,
    what: /2 messages pending, the oldest for 10 min/,
    remedy: /drizzle-outbox status/,
  },
  {
    title: "a held destination",
    cause: async ({ sql }) => {
      const held = { destination: "/exchange/gone", since: new Date().toISOString(), words: "NOT_FOUND" }
      const state = JSON.stringify({ heldDestinations: [held] })
      await sql`
        INSERT INTO outbox.relays (id, name, expires_at, state)
        VALUES (gen_random_uuid(), 'r', now() + interval '1 minute', ${state}::text::json)`
    },
    level: "warning",
    check: "backlog.held-destination",
    where: /^\/exchange\/gone$/,
    what: /held by relay r since .*: NOT_FOUND$/,
    remedy: /flows by itself/,
  },
  {
    title: "dead messages",
    cause: async ({ sql }) => {
      await writeMessages(sql, { count: 1 })
      await run(sql, "UPDATE outbox.messages SET dead_at = now()")
    },
    level: "warning",
    check: "backlog.dead",
    where: /^dead messages$/,
    what: /^1 message in the outbox/,
    remedy: /dead list/,
  },
  {
    title: "messages that died in a consumer",
    cause: ({ sql }) =>
      run(
        sql,
        "INSERT INTO outbox.inbox (consumer, message_id, queue, destination, state, finished_at) VALUES ('c', '1', 'q', 'd', 'dead', now())",
      ),
    level: "warning",
    check: "backlog.dead-inbox",
    where: /^dead messages$/,
    what: /^1 message in the inbox/,
    remedy: /dead list --inbox/,
  },
]

describe("the doctor finds", () => {
  it.each(cases)("$title", (example) =>
    withDatabase(async (database) => {
      const end = await example.cause(database)
      try {
        const { code, findings } = await doctor(variables(database.url), example.options)
        const found = findings.filter(
          ({ check, where }) => check === example.check && example.where.test(where),
        )
        assert.lengthOf(found, 1, JSON.stringify(findings))
        assert.strictEqual(found[0]?.level, example.level)
        assert.match(found[0]?.what ?? "", example.what)
        assert.match(found[0]?.remedy ?? "", example.remedy)
        if (example.level === "problem") assert.strictEqual(code, 1)
      } finally {
        if (typeof end === "function") await end()
      }
    }),
  )
})

it("finds a clock that is 7 s late", () =>
  withDatabase(async ({ url }) => {
    const code = "const now = Date.now; Date.now = () => now() - 7000"
    const { findings } = await doctorProgram({
      ...variables(url),
      NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(code)}`,
    })
    const found = findings.find(({ check }) => check === "database.clock")
    assert.strictEqual(found?.level, "problem")
    assert.match(found?.what ?? "", /are (6\.9|7(\.\d)?) s apart: this machine is behind/)
    assert.match(found?.remedy ?? "", /NTP/)
  }))

describe("a database", () => {
  it("that is away is a problem, and the broker is checked all the same", async () => {
    const visit = await doctorProgram(variables("postgres://app:hunter2@127.0.0.1:1/shop"))
    assert.strictEqual(visit.code, 1)
    assert.strictEqual(visit.stderr, "drizzle-outbox doctor: 1 problem\n")
    assert.deepStrictEqual(visit.checks, ["database.connect", "topology.route"])
    assert.match(visit.findings[0]?.what ?? "", /ECONNREFUSED/)
    const shown = await cli(["doctor"], variables("postgres://app:hunter2@127.0.0.1:1/shop"))
    assert.match(shown.stdout, /^PROBLEM +database: could not connect .*ECONNREFUSED/m)
    assert.match(shown.stdout, /^ok +stomp:.*RabbitMQ/m)
    assert.notInclude(shown.stdout + shown.stderr, "hunter2")
  })

  it("that refuses the password says so without it", () =>
    withDatabase(async ({ url }) => {
      const wrong = url.replace("postgres:postgres@", "postgres:hunter2@")
      const { findings } = await doctor(variables(wrong))
      const found = findings.find(({ check }) => check === "database.connect")
      assert.match(found?.what ?? "", /password authentication failed/)
      assert.match(found?.remedy ?? "", /user, the password/)
      assert.notInclude(JSON.stringify(findings), "hunter2")
    }))

  it("of a server without autovacuum is told of it", async () => {
    const server = await startPostgres({ autovacuum: "off", fsync: "on" })
    try {
      const sql = postgres(server.url, { max: 1, onnotice: () => {} })
      await Effect.runPromise(migrate(sql))
      await sql.end()
      const { checks } = await doctor(variables(server.url))
      assert.deepStrictEqual(checks, ["database.autovacuum", "topology.route"])
    } finally {
      await server.remove()
    }
  })
})

describe("a role", () => {
  const withRole = (grants: ReadonlyArray<string>, test: (url: string, name: string) => Promise<void>) =>
    withDatabase(async ({ url, sql }) => {
      const name = `r_${randomUUID().slice(0, 8)}`
      await run(sql, `CREATE ROLE ${name} LOGIN PASSWORD 'hunter2'`)
      for (const grant of grants) await run(sql, `GRANT ${grant} TO ${name}`)
      try {
        await test(url.replace("postgres:postgres@", `${name}:hunter2@`), name)
      } finally {
        await run(sql, `DROP OWNED BY ${name}`, `DROP ROLE ${name}`)
      }
    })
  const relay = [
    "USAGE ON SCHEMA outbox",
    "SELECT, DELETE, UPDATE (attempts, last_error, available_at, dead_at, published_at) ON outbox.messages",
    "SELECT, INSERT, UPDATE, DELETE ON outbox.relays",
    "SELECT, UPDATE ON outbox.lanes",
    "SELECT ON outbox.migrations",
    "SELECT ON SEQUENCE outbox.messages_position_seq",
  ]

  it("that may do less than all is well as what it may be, and a problem as what it may not", () =>
    withRole(relay, async (url, name) => {
      const asRelay = await doctor(variables(url), { as: "relay" })
      assert.notInclude(asRelay.checks, "database.privileges", JSON.stringify(asRelay.findings))
      const asConsumer = await doctor(variables(url), { as: "consumer" })
      const found = asConsumer.findings.find(({ check }) => check === "database.privileges")
      assert.strictEqual(found?.level, "problem")
      assert.match(
        found?.what ?? "",
        /may not be a consumer: it lacks SELECT ON "outbox"\."inbox", INSERT ON/,
      )
      assert.include(found?.remedy ?? "", `GRANT DELETE ON "outbox"."consumers" TO "${name}";`)
      const asAny = await doctor(variables(url))
      assert.isTrue(
        asAny.findings.every(({ check, level }) => check !== "database.privileges" || level === "unchecked"),
      )
    }))

  it("that lacks one thing is told which", () =>
    withRole(relay.slice(0, -1), async (url) => {
      const { findings } = await doctor(variables(url), { as: "relay" })
      const found = findings.find(({ check }) => check === "database.privileges")
      assert.match(found?.what ?? "", /it lacks SELECT ON SEQUENCE outbox\.messages_position_seq$/)
    }))

  it("that may not see others' transactions says that it looked at none", () =>
    withRole(relay, async (url) => {
      const { findings } = await doctor(variables(url))
      const found = findings.find(({ check }) => check === "database.long-transaction")
      assert.strictEqual(found?.level, "unchecked")
      assert.match(found?.remedy ?? "", /pg_read_all_stats/)
    }))
})

describe("PgBouncer", () => {
  const through = (mode: "transaction" | "session", test: (url: string) => Promise<void>) =>
    withDatabase(async ({ url }) => {
      const bouncer = await startPgBouncer({ url, mode })
      try {
        await test(bouncer.url)
      } finally {
        await bouncer.remove()
      }
    })

  it("in transaction mode is found out, with what follows from it", () =>
    through("transaction", async (url) => {
      const { code, findings } = await doctor(variables(url))
      const found = findings.find(({ check }) => check === "database.pooler")
      assert.strictEqual(found?.level, "warning")
      assert.match(
        found?.what ?? "",
        /^in transaction mode \(PgBouncer\): the relay works without prepared statements/,
      )
      assert.strictEqual(code, 0, JSON.stringify(findings))
      const listening = await doctor({ ...variables(url), OUTBOX_LISTEN: "on" })
      const deaf = listening.findings.find(({ check }) => check === "database.pooler")
      assert.strictEqual(deaf?.level, "problem")
      assert.match(deaf?.what ?? "", /LISTEN is deaf/)
      assert.strictEqual(listening.code, 1)
    }))

  it("in session mode is told from it", () =>
    through("session", async (url) => {
      const { findings } = await doctor({ ...variables(url), OUTBOX_LISTEN: "on" })
      const found = findings.find(({ check }) => check === "database.pooler")
      assert.strictEqual(found?.level, "warning")
      assert.match(found?.what ?? "", /^in session mode/)
    }))
})
