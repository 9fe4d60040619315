import { afterAll, assert, beforeAll, beforeEach, describe, it } from "@effect/vitest"
import { createDatabase, type TestDatabase } from "../support/postgres.ts"
import { cli } from "./program.ts"

let database: TestDatabase
beforeAll(async () => {
  database = await createDatabase()
})
afterAll(() => database.drop())

const variables = () => ({ OUTBOX_DATABASE_URL: database.url })
const states = async () =>
  Object.fromEntries(
    (await database.sql`SELECT message_id, state FROM outbox.inbox ORDER BY position`).map((row) => [
      row["message_id"],
      row["state"],
    ]),
  )

/** m1 and m2 are dead in billing, m2 in shipping, too; m3 and m4 are parked, m5 is handled. */
beforeEach(async () => {
  await database.sql`TRUNCATE outbox.inbox RESTART IDENTITY`
  await database.sql`TRUNCATE outbox.consumers, outbox.subscriptions`
  const headers = JSON.stringify({ "outbox-event": "orders", "x-a": "b" })
  await database.sql`
    INSERT INTO outbox.inbox (consumer, message_id, queue, destination, key, state, attempts, started, received_at,
                              available_at, finished_at, last_error, headers, body)
    SELECT consumer, id, consumer || '.orders', '/topic/orders', key, state, attempts, started,
           now() - interval '90 s', CASE state WHEN 'parked' THEN now() END,
           CASE WHEN state <> 'parked' THEN now() - interval '1 h' + nth * interval '1 s' END, error,
           CASE WHEN state <> 'handled' THEN ${headers}::text::json END,
           CASE WHEN state <> 'handled' THEN convert_to('{"n":' || nth || '}', 'UTF8') END
    FROM (VALUES (1, 'billing', 'm1', 'k1', 'dead', 50, 2, 'Payment refused 100%'),
                 (2, 'billing', 'm2', 'k2', 'dead', 1, 0, 'no such order'),
                 (3, 'shipping', 'm2', 'k2', 'dead', 3, 0, 'no address'),
                 (4, 'billing', 'm3', 'k1', 'parked', 1, 0, 'later'),
                 (5, 'billing', 'm4', 'k1', 'parked', 0, 0, NULL),
                 (6, 'billing', 'm5', 'k3', 'handled', 0, 0, NULL))
      AS v (nth, consumer, id, key, state, attempts, started, error)
    ORDER BY nth`
})

describe("drizzle-outbox dead --inbox", () => {
  const run = (...args: string[]) => cli(["dead", ...args, "--inbox"], variables())
  const found = async (...filter: string[]) =>
    (JSON.parse((await run("list", "--json", ...filter)).stdout) as { consumer: string; id: string }[]).map(
      ({ consumer, id }) => `${consumer} ${id}`,
    )

  it("lists them, the latest first, by every filter", async () => {
    const [m1, m2, other] = ["billing m1", "billing m2", "shipping m2"]
    assert.deepStrictEqual(await found(), [other, m2, m1])
    assert.deepStrictEqual(await found("--consumer", "billing"), [m2, m1])
    assert.deepStrictEqual(await found("--id", "m2"), [other, m2])
    assert.deepStrictEqual(await found("--key", "k1"), [m1])
    assert.deepStrictEqual(await found("--error", "refused 100%"), [m1])
    assert.deepStrictEqual(await found("--destination", "/topic/orders", "--limit", "1"), [other])
    assert.deepStrictEqual(await found("--event", "orders", "--consumer", "shipping"), [other])
    assert.deepStrictEqual(await found("--event", "other"), [])
    const { stdout } = await run("list")
    assert.match(stdout, /^DIED +CONSUMER +ID +EVENT +DESTINATION +KEY +ATTEMPTS +LAST ERROR\n/)
    assert.match(stdout, /billing +m1 +orders +\/topic\/orders +k1 +50 +Payment refused 100%\n/)
    assert.strictEqual((await cli(["dead", "list"], variables())).stdout, "no dead message\n")
  })

  it("shows one whole, in each consumer where it is dead", async () => {
    const one = JSON.parse((await run("show", "m1", "--json")).stdout)
    assert.deepInclude(one, { consumer: "billing", queue: "billing.orders", id: "m1", body: '{"n":1}' })
    assert.deepInclude(one, { attempts: 50, started: 2, lastError: "Payment refused 100%" })
    assert.deepStrictEqual(one.headers, { "outbox-event": "orders", "x-a": "b" })
    assert.strictEqual((await run("show", "m2", "--json")).stdout.trimEnd().split("\n").length, 2)
    assert.match((await run("show", "m2", "--consumer", "shipping")).stdout, /^lastError +no address$/m)
    assert.match((await run("show", "m3")).stderr, /there is no dead message m3 in the inbox\n$/)
    await database.sql`UPDATE outbox.inbox SET body = '\\x00ff' WHERE message_id = 'm1'`
    assert.strictEqual(JSON.parse((await run("show", "m1", "--json")).stdout).bodyBase64, "AP8=")
  })

  it("requeues what fits: parked, due, with all its tries before it", async () => {
    assert.strictEqual((await run("requeue", "--consumer", "billing")).stdout, "2 messages requeued\n")
    assert.deepStrictEqual(await found(), ["shipping m2"])
    const [row] = await database.sql`
      SELECT state, attempts, started, available_at <= clock_timestamp() AS due, finished_at, body IS NOT NULL AS whole
      FROM outbox.inbox WHERE message_id = 'm1'`
    assert.deepStrictEqual({ ...row }, {
      state: "parked",
      attempts: 0,
      started: 0,
      due: true,
      finished_at: null,
      whole: true,
    } as never)
    const [handled] = await database.sql`SELECT state FROM outbox.inbox WHERE message_id = 'm5'`
    assert.strictEqual(handled?.["state"], "handled")
  })

  it("discards what fits, and remembers the ids", async () => {
    assert.match(
      (await run("discard", "--consumer", "billing", "--dry-run")).stdout,
      /2 messages would be discarded\n$/,
    )
    assert.strictEqual((await run("discard", "--error", "refused")).stdout, "1 message discarded\n")
    const [row] = await database.sql`
      SELECT state, headers, body, finished_at > now() - interval '1 minute' AS now FROM outbox.inbox WHERE message_id = 'm1'`
    assert.deepStrictEqual({ ...row }, { state: "handled", headers: null, body: null, now: true } as never)
    assert.deepStrictEqual(await states(), {
      m1: "handled",
      m2: "dead",
      m3: "parked",
      m4: "parked",
      m5: "handled",
    })
  })

  it("wants --all where no filter is given, and --inbox for a consumer", async () => {
    assert.match(
      (await run("discard")).stderr,
      /no filter is given: add one \(--consumer, --destination, .* or --all to discard every dead message\n$/,
    )
    assert.strictEqual((await run("requeue", "--all")).stdout, "3 messages requeued\n")
    const { code, stderr } = await cli(["dead", "list", "--consumer", "billing"], variables())
    assert.strictEqual(code, 1)
    assert.match(stderr, /^drizzle-outbox dead list: --consumer needs --inbox: /)
  })

  it("cannot be talked into SQL", async () => {
    const evil = "'; DELETE FROM outbox.inbox; --"
    for (const flag of ["--consumer", "--id", "--destination", "--event", "--key", "--error"])
      assert.strictEqual((await run("discard", flag, evil)).stdout, "0 messages discarded\n")
    assert.strictEqual((await found()).length, 3)
  })
})

describe("drizzle-outbox status, of the inbox", () => {
  it("counts what is parked and dead by consumer, and shows who consumes", async () => {
    const { sql } = database
    const since = new Date(Date.now() - 200_000).toISOString()
    const state = JSON.stringify({
      connection: "connected",
      paused: { reason: "failing", words: "the handlers of 10 keys failed in a row", since },
      ...{ running: 2, handled: 1234, duplicates: 5, failed: 6, dead: 2 },
    })
    const [first] = await sql`
      INSERT INTO outbox.consumers (id, consumer, queue, name, started_at, expires_at, state)
      VALUES (gen_random_uuid(), 'billing', 'billing.orders', 'host:1', now() - interval '5 min', now() + interval '9 s', ${state}::text::json)
      RETURNING id`
    await sql`
      INSERT INTO outbox.consumers (id, consumer, queue, name, expires_at, state)
      VALUES (gen_random_uuid(), 'billing', 'billing.orders', 'host:2', now() + interval '9 s', '{"connection":"standing by"}'),
             (gen_random_uuid(), 'billing', 'billing.orders', 'host:0', now() - interval '1 h', '{}'),
             (gen_random_uuid(), 'audit', 'audit.orders', 'host:3', now() - interval '2 h', '{}')`
    await sql`
      INSERT INTO outbox.subscriptions (consumer, queue, holder, held_until)
      VALUES ('billing', 'billing.orders', ${first?.["id"] as string}, now() + interval '9 s')`

    const { inbox } = JSON.parse((await cli(["status", "--json"], variables())).stdout)
    assert.deepInclude(inbox, { parked: 2, dead: 3 })
    assert.isAtLeast(inbox.oldestParkedSeconds, 90)
    const [audit, billing, shipping] = inbox.consumers
    assert.deepInclude(audit, { consumer: "audit", parked: 0, oldestParkedSeconds: null, dead: 0 })
    assert.isFalse(audit.instances[0].alive)
    assert.deepInclude(billing, { consumer: "billing", queue: "billing.orders", parked: 2, dead: 2 })
    assert.deepStrictEqual(
      billing.instances.map(({ name }: { name: string }) => name),
      ["host:1", "host:2"],
    )
    assert.deepInclude(billing.instances[0], { holds: true, connection: "connected", handled: 1234 })
    assert.deepInclude(billing.instances[0].paused, { reason: "failing", since })
    assert.deepInclude(billing.instances[1], { holds: false, connection: "standing by", paused: null })
    assert.deepInclude(shipping, { consumer: "shipping", dead: 1, instances: [] })

    const { stdout } = await cli(["status"], variables())
    assert.match(stdout, /^parked +2 \(the oldest for 1 min 3\d s\)$/m)
    assert.match(stdout, /^dead in the inbox +3$/m)
    assert.match(stdout, /billing +queue billing\.orders +2 \(the oldest .*\) parked +2 dead +2 instances$/m)
    assert.match(
      stdout,
      /billing +host:1 +up 5 min.* +connected, holds the subscription +paused for 3 min 2\d s \(failing\) +2 running, 1,234 handled +the handlers of 10/,
    )
    assert.match(stdout, /billing +host:2 +up .* +standing by +0 running/)
    assert.match(stdout, /audit +host:3 +lease over/)
  })
})
