import { assert, describe, it } from "@effect/vitest"
import { createDatabase } from "../support/postgres.ts"
import { writeMessages } from "../support/relay.ts"
import { cli } from "./program.ts"

const withDatabase = async (
  test: (
    database: Awaited<ReturnType<typeof createDatabase>>,
    variables: Record<string, string>,
  ) => Promise<void>,
) => {
  const database = await createDatabase()
  try {
    await test(database, { OUTBOX_DATABASE_URL: database.url })
  } finally {
    await database.drop()
  }
}

describe("drizzle-outbox status", () => {
  it("reports an empty outbox", () =>
    withDatabase(async (_, variables) => {
      const { code, stdout, stderr } = await cli(["status", "--json"], variables)
      assert.strictEqual(code, 0)
      assert.strictEqual(stderr, "")
      assert.deepStrictEqual(JSON.parse(stdout), {
        ok: true,
        exceeded: [],
        schema: "outbox",
        backlog: 0,
        notDue: 0,
        oldestAgeSeconds: null,
        dead: 0,
        held: 0,
        heldKeys: [],
        heldDestinations: [],
        relays: [],
        lanesWithoutRelay: 64,
        inbox: { parked: 0, oldestParkedSeconds: null, dead: 0, consumers: [] },
      })
    }))

  it("shows what waits, what is dead, what is held and who works", () =>
    withDatabase(async ({ sql }, variables) => {
      await writeMessages(sql, { count: 5, key: "k" })
      await sql`UPDATE outbox.messages SET created_at = now() - interval '90 s' WHERE position = 1`
      await sql`
        UPDATE outbox.messages SET attempts = 2, last_error = 'refused\nfor now', available_at = now() + interval '1 h'
        WHERE position = 1`
      await sql`UPDATE outbox.messages SET available_at = now() + interval '1 day' WHERE position = 2`
      await sql`UPDATE outbox.messages SET dead_at = now(), last_error = 'too large' WHERE position = 3`
      await sql`UPDATE outbox.messages SET published_at = now() WHERE position = 4`
      const state = {
        broker: { profile: "rabbitmq", server: "RabbitMQ/4.2", state: "connected" },
        heldDestinations: [
          { destination: "/exchange/gone", since: new Date().toISOString(), words: "not_found" },
        ],
        inFlight: 7,
        publishedTotal: 1234,
      }
      const [relay] = await sql`
        INSERT INTO outbox.relays (id, name, expires_at, state)
        VALUES (gen_random_uuid(), 'host:1', now() + interval '9 s', ${JSON.stringify(state)}::text::json) RETURNING id`
      await sql`
        INSERT INTO outbox.relays (id, name, expires_at) VALUES (gen_random_uuid(), 'gone', now() - interval '1 h')`
      await sql`UPDATE outbox.lanes SET relay_id = ${relay?.["id"] as string} WHERE lane < 32`

      const report = JSON.parse((await cli(["status", "--json"], variables)).stdout)
      assert.strictEqual(report.backlog, 3)
      assert.strictEqual(report.notDue, 2)
      assert.strictEqual(report.dead, 1)
      assert.isAtLeast(report.oldestAgeSeconds, 90)
      assert.isBelow(report.oldestAgeSeconds, 120)
      assert.strictEqual(report.held, 1)
      const [held] = report.heldKeys
      assert.strictEqual(held.key, "k")
      assert.strictEqual(held.destination, "/topic/test")
      assert.strictEqual(held.attempts, 2)
      assert.strictEqual(held.lastError, "refused\nfor now")
      assert.deepInclude(report.heldDestinations[0], { destination: "/exchange/gone", relay: "host:1" })
      assert.strictEqual(report.relays.length, 1)
      assert.deepInclude(report.relays[0], { name: "host:1", alive: true, inFlight: 7, publishedTotal: 1234 })
      assert.strictEqual(report.relays[0].lanes.length, 32)
      assert.strictEqual(report.lanesWithoutRelay, 32)

      const { code, stdout } = await cli(["status"], variables)
      assert.strictEqual(code, 0)
      assert.match(stdout, /^backlog +3 \(2 not due\)$/m)
      assert.match(stdout, /^relays +1 \(32 of 64 lanes are without a relay\)$/m)
      assert.match(
        stdout,
        /host:1 +32 lanes \(0-31\) +lease \d.*RabbitMQ\/4\.2 connected +7 in flight, 1,234 published/,
      )
      assert.match(stdout, /\/exchange\/gone .*not_found/)
      assert.include(stdout, "refused\\nfor now")
    }))

  it("exits 1 past a limit, and says which", () =>
    withDatabase(async ({ sql }, variables) => {
      await writeMessages(sql, { count: 3 })
      await sql`UPDATE outbox.messages SET created_at = now() - interval '45 s'`
      const fine = await cli(["status", "--max-age", "60s", "--max-backlog", "3"], variables)
      assert.strictEqual(fine.code, 0)
      const late = await cli(["status", "--max-age", "30s", "--max-backlog=2", "--json"], variables)
      assert.strictEqual(late.code, 1)
      assert.match(
        late.stderr,
        /^drizzle-outbox status: the oldest pending message has waited for ([45]\d(\.\d)? s|1 min.*), longer than 30 s; 3 messages pending, more than 2\n$/,
      )
      const report = JSON.parse(late.stdout)
      assert.isFalse(report.ok)
      assert.strictEqual(report.exceeded.length, 2)
    }))

  it("does not take a delayed message for an old one", () =>
    withDatabase(async ({ sql }, variables) => {
      await writeMessages(sql, { count: 1 })
      await sql`UPDATE outbox.messages SET created_at = now() - interval '1 day', available_at = now() + interval '1 day'`
      const { code, stdout } = await cli(["status", "--max-age", "1 s", "--json"], variables)
      assert.strictEqual(code, 0)
      assert.isNull(JSON.parse(stdout).oldestAgeSeconds)
    }))

  it("says what to do about a database without tables, and where nobody answers, without the password", async () => {
    const database = await createDatabase({ template: "none" })
    const without = await cli(["status"], { OUTBOX_DATABASE_URL: database.url })
    assert.strictEqual(without.code, 1)
    assert.match(without.stderr, /schema "outbox" has no outbox tables: run "drizzle-outbox migrate"\n$/)
    await database.drop()
    const nobody = await cli(["status"], { OUTBOX_DATABASE_URL: "postgres://app:hunter2@127.0.0.1:1/shop" })
    assert.strictEqual(nobody.code, 1)
    assert.match(
      nobody.stderr,
      /^drizzle-outbox status: could not connect to the database: .*ECONNREFUSED.*\n$/,
    )
    assert.notInclude(nobody.stderr, "hunter2")
  })
})
