import { assert, describe, it } from "@effect/vitest"
import { afterAll, beforeAll, beforeEach } from "vitest"
import { createDatabase, type TestDatabase } from "../support/postgres.ts"
import { writeMessages } from "../support/relay.ts"
import { cli } from "./program.ts"

describe("drizzle-outbox dead", () => {
  let database: TestDatabase
  beforeAll(async () => {
    database = await createDatabase()
  })
  afterAll(() => database.drop())

  const run = (...args: string[]) => cli(["dead", ...args], { OUTBOX_DATABASE_URL: database.url })
  const dead = async () =>
    (await database.sql`SELECT position::int FROM outbox.messages WHERE dead_at IS NOT NULL ORDER BY 1`).map(
      (row) => row["position"] as number,
    )

  /** Positions 1 to 6 are dead, 7 is pending, 8 is refused, 9 is published. */
  beforeEach(async () => {
    const { sql } = database
    await sql`TRUNCATE outbox.messages RESTART IDENTITY`
    await writeMessages(sql, { count: 9, keys: 3 })
    await sql`
      UPDATE outbox.messages SET dead_at = now() + position * interval '1 ms' - interval '1 h', attempts = 50, last_error = 'Refused 100%'
      WHERE position <= 6`
    await sql`UPDATE outbox.messages SET destination = '/topic/other' WHERE position IN (1, 2)`
    await sql`UPDATE outbox.messages SET event = 'other' WHERE position = 3`
    await sql`UPDATE outbox.messages SET last_error = 'Refused 1000' WHERE position = 4`
    await sql`UPDATE outbox.messages SET attempts = 3, last_error = 'Refused 100%' WHERE position = 8`
    await sql`UPDATE outbox.messages SET published_at = now() WHERE position = 9`
  })

  const positions = async (...filter: string[]) =>
    (JSON.parse((await run("list", "--json", ...filter)).stdout) as { position: number }[]).map(
      ({ position }) => position,
    )

  it("lists them, the latest first, by every filter", async () => {
    assert.deepStrictEqual(await positions(), [6, 5, 4, 3, 2, 1])
    assert.deepStrictEqual(await positions("--destination", "/topic/other"), [2, 1])
    assert.deepStrictEqual(await positions("--event", "other"), [3])
    assert.deepStrictEqual(await positions("--key", "k1"), [4, 1])
    assert.deepStrictEqual(await positions("--error", "refused 100%"), [6, 5, 3, 2, 1])
    assert.deepStrictEqual(await positions("--error", "_efused"), [])
    assert.deepStrictEqual(await positions("--key", "k1", "--destination", "/topic/test"), [4])
    assert.deepStrictEqual(await positions("--limit", "2"), [6, 5])
  })

  it("lists them for people, too", async () => {
    const { stdout } = await run("list", "--limit", "5")
    assert.match(stdout, /^DIED +ID +EVENT +DESTINATION +KEY +ATTEMPTS +LAST ERROR\n/)
    assert.match(stdout, /\/topic\/test +k0 +50 +Refused 100%\n/)
    assert.match(stdout, /… and 1 message more \(--limit\)\n$/)
    assert.strictEqual((await run("list", "--event", "none")).stdout, "no dead message\n")
  })

  it("shows one whole, and only a dead one", async () => {
    const [row] = await database.sql`SELECT id FROM outbox.messages WHERE position = 3`
    const id = row?.["id"] as string
    const shown = JSON.parse((await run("show", id, "--json")).stdout)
    assert.deepInclude(shown, { id, event: "other", key: "k0", body: '{"n" : 3}', lastError: "Refused 100%" })
    assert.match((await run("show", id)).stdout, /^body +\{"n" : 3\}$/m)
    const [pending] = await database.sql`SELECT id FROM outbox.messages WHERE position = 7`
    const none = await run("show", pending?.["id"] as string)
    assert.strictEqual(none.code, 1)
    assert.match(none.stderr, /there is no dead message/)
    assert.match((await run("show")).stderr, /which message\?/)
    assert.match((await run("show", "7")).stderr, /--id is "7": expected the UUID of a message/)
  })

  it("shows bytes in base64", async () => {
    const [row] = await database.sql`
      UPDATE outbox.messages SET body = NULL, body_bytes = '\\x00ff'::bytea WHERE position = 1 RETURNING id`
    const shown = JSON.parse((await run("show", row?.["id"] as string, "--json")).stdout)
    assert.strictEqual(shown.bodyBase64, "AP8=")
    assert.notProperty(shown, "body")
  })

  it("requeues what fits, under its id, and nothing that is not dead", async () => {
    const before = await database.sql`SELECT id FROM outbox.messages ORDER BY position`
    const { code, stdout } = await run("requeue", "--error", "100%")
    assert.strictEqual(code, 0)
    assert.strictEqual(stdout, "5 messages requeued\n")
    assert.deepStrictEqual(await dead(), [4])
    const rows = await database.sql`
      SELECT id, attempts, available_at <= clock_timestamp() AS due FROM outbox.messages ORDER BY position`
    assert.deepStrictEqual(
      rows.map((row) => row["id"]),
      before.map((row) => row["id"]),
    )
    for (const position of [1, 2, 3, 5, 6])
      assert.deepInclude(rows[position - 1], { attempts: 0, due: true }, `position ${position}`)
    assert.deepInclude(rows[6], { attempts: 0, due: null })
    assert.deepInclude(rows[7], { attempts: 3, due: null })
    assert.deepInclude(rows[8], { attempts: 0, due: null })
  })

  it("discards what fits, the earliest first, and nothing that is not dead", async () => {
    const { stdout } = await run("discard", "--destination", "/topic/test", "--limit", "2", "--json")
    assert.deepStrictEqual(JSON.parse(stdout), { count: 2, dryRun: false })
    assert.deepStrictEqual(await dead(), [1, 2, 5, 6])
    assert.strictEqual((await run("discard", "--all")).stdout, "4 messages discarded\n")
    const [left] = await database.sql`SELECT count(*)::int AS n FROM outbox.messages`
    assert.strictEqual(left?.["n"], 3)
  })

  it("takes ids", async () => {
    const rows =
      await database.sql`SELECT id FROM outbox.messages WHERE position IN (2, 5, 7) ORDER BY position`
    const { stdout } = await run("discard", "--id", rows.map((row) => row["id"]).join(","))
    assert.strictEqual(stdout, "2 messages discarded\n")
    assert.deepStrictEqual(await dead(), [1, 3, 4, 6])
  })

  it("rehearses", async () => {
    const { stdout } = await run("requeue", "--destination", "/topic/other", "--dry-run")
    assert.match(stdout, /^DIED/)
    assert.match(stdout, /2 messages would be requeued\n$/)
    assert.deepStrictEqual(JSON.parse((await run("discard", "--all", "--dry-run", "--json")).stdout), {
      count: 6,
      dryRun: true,
    })
    assert.deepStrictEqual(await dead(), [1, 2, 3, 4, 5, 6])
  })

  it("wants --all where no filter is given", async () => {
    for (const command of ["requeue", "discard"]) {
      const { code, stderr } = await run(command)
      assert.strictEqual(code, 1)
      assert.match(
        stderr,
        /^drizzle-outbox dead (requeue|discard): no filter is given: add one .* or --all to /,
      )
    }
    assert.strictEqual((await dead()).length, 6)
  })

  it("works through thousands in batches, and says how far it is", async () => {
    await writeMessages(database.sql, { count: 2500 })
    await database.sql`UPDATE outbox.messages SET dead_at = now(), last_error = 'x' WHERE position > 9`
    const { stdout, stderr } = await run("requeue", "--error", "x")
    assert.strictEqual(stdout, "2,500 messages requeued\n")
    assert.strictEqual(stderr, "1,000 requeued …\n2,000 requeued …\n")
    assert.strictEqual((await dead()).length, 6)
  })

  it("cannot be talked into SQL", async () => {
    const evil = "'; DELETE FROM outbox.messages; --"
    for (const flag of ["--destination", "--event", "--key", "--error"])
      assert.strictEqual((await run("discard", flag, evil)).stdout, "0 messages discarded\n")
    assert.strictEqual((await dead()).length, 6)
  })
})
