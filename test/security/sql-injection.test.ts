/** Whatever somebody can name, it stays a value: strings that would end one, begin another statement or mean something to LIKE. */
import { sql as raw } from "drizzle-orm"
import { drizzle } from "drizzle-orm/postgres-js"
import { Effect, Layer } from "effect"
import postgres from "postgres"
import { afterAll, assert, beforeAll, describe, it } from "vitest"
import { type Arrival, Inbox, layerPostgres as inboxLayer } from "../../src/inbox/index.ts"
import {
  countInboxDead,
  discardInboxDead,
  readInboxDead,
  readInboxDeadMessages,
  requeueInboxDead,
} from "../../src/inbox/operate.ts"
import { defineOutbox } from "../../src/index.ts"
import { channelOf, layerListen, Nudge, Wakeup } from "../../src/relay/wakeup.ts"
import { migrate, migrations, printMigrations } from "../../src/store/migrate.ts"
import { countDead, discardDead, readDead, readNow, requeueDead } from "../../src/store/operate.ts"
import { layerPostgres } from "../../src/store/postgres.ts"
import { quoteSchema } from "../../src/store/schema-name.ts"
import { OutboxStore } from "../../src/store/store.ts"
import { createDatabase, type TestDatabase } from "../support/postgres.ts"
import { random } from "../support/random.ts"
import { eventually } from "../support/relay.ts"

const seed = Number(process.env["OUTBOX_TEST_SEED"] ?? Date.now() % 1_000_000)
const pieces = [
  ..."'\"\\;%_*?&|{}[]()<>=~^#@!`$,.:/- \t\n\r\b\f\v\x01\x1f\x7f",
  ..."''|\"\"|$$|$q$|$1|--|/*|*/|\\'|\\\\|');|E'|U&'\\0041'|::text|%s|\u2028|\u0085|é|漢|😀|\u202e|\ufeff".split(
    "|",
  ),
  "'; DROP TABLE canary; --",
  "$$; DROP TABLE canary; --",
  '"; DROP TABLE canary; --',
  "\n; DROP TABLE canary; --",
  "a', 'b') RETURNING pg_sleep(9); --",
]

let database: TestDatabase
beforeAll(async () => {
  database = await createDatabase()
  await database.sql`CREATE TABLE canary ()`
})
afterAll(async () => {
  await database.sql`SELECT * FROM canary`
  await database.drop()
})

const strings = (from: number) => {
  const { below } = random(from)
  return {
    below,
    text: (most = 8) => Array.from({ length: 1 + below(most) }, () => pieces[below(pieces.length)]).join(""),
    line: (most = 8) =>
      Array.from({ length: 1 + below(most) }, () => pieces[below(pieces.length)])
        .join("")
        .replace(/[\r\n]/g, "_"),
  }
}

const everything = { after: undefined, limit: 1000 } as const

it(`what is written is what was given (seed ${seed})`, async () => {
  const { text, line } = strings(seed)
  for (let run = 0; run < 25; run++) {
    const given = {
      event: line(),
      destination: `/topic/${line()}`,
      key: line(),
      header: line(),
      value: line(),
      body: text(),
      id: line(),
    }
    const own = {
      headers: { [`x${given.header}`]: given.value },
      key: () => given.key,
    }
    const json = { destination: given.destination, serializer: (body: string) => body }
    const plain = { ...json, destination: `/queue/${line()}`, contentType: "text/plain" }
    const { emit } = defineOutbox({
      [given.event]: { ...own, ...json },
      [`2${given.event}`]: { ...own, publish: [json, plain] },
    })
    await drizzle(database.sql).transaction(async (tx) => {
      for (const event of [given.event, `2${given.event}`])
        await emit(tx, event as never, given.body as never, { correlationId: given.id })
      await tx.execute(
        raw`SELECT outbox.emit(${given.event}, ${given.destination}, ${given.body}, ${given.key})`,
      )
    })
    const rows =
      await database.sql`DELETE FROM outbox.messages RETURNING event, destination, key, headers, body`
    const { event, destination, key } = given
    const headers = { [`x${given.header}`]: given.value, "outbox-correlation-id": given.id }
    assert.sameDeepMembers(
      rows.map((row) => ({ ...row })),
      [
        { event, destination, key, headers, body: JSON.stringify(given.body) },
        { event: `2${event}`, destination, key, headers, body: JSON.stringify(given.body) },
        { event: `2${event}`, destination: plain.destination, key, headers, body: given.body },
        { event, destination, key, headers: {}, body: given.body },
      ],
    )
  }
})

it(`a relay's names and words are values (seed ${seed})`, async () => {
  const { text } = strings(seed + 1)
  await Effect.runPromise(
    Effect.gen(function* () {
      const store = yield* OutboxStore
      for (let run = 0; run < 10; run++) {
        const [name, words, broker] = [text(), text(), text()]
        const relay = "00000000-0000-4000-8000-00000000000a"
        const tick = {
          relay,
          name,
          leaseMillis: 60_000,
          renew: true,
          floor: 0,
          state: JSON.stringify({ broker }),
        }
        yield* Effect.promise(() => database.sql`TRUNCATE outbox.messages, outbox.relays`)
        const { lanes } = yield* store.tick(tick)
        yield* Effect.promise(() => database.sql`SELECT outbox.emit('e', '/topic/e', 'b')`)
        const { seen } = yield* store.read({
          lanes: [...lanes.keys()],
          from: 0,
          cursor: 0,
          gaps: [],
          limit: 10,
          bytes: 1000,
        })
        const message = seen[0]?.message
        assert.isDefined(message)
        yield* store.judge([
          {
            position: message.position,
            lane: message.lane,
            token: lanes.get(message.lane) ?? 0,
            words,
            attempts: 1,
            fate: "dead",
          },
        ])
        const rows = yield* Effect.promise(
          () => database.sql`
            SELECT m.last_error AS words, r.name, r.state ->> 'broker' AS broker FROM outbox.messages m, outbox.relays r`,
        )
        assert.deepStrictEqual(
          rows.map((row) => ({ ...row })),
          [{ words, name, broker }],
        )
      }
    }).pipe(Effect.provide(layerPostgres({ url: database.url }))),
  )
})

it(`an inbox's names and words are values, for one message and for several (seed ${seed})`, async () => {
  const { text } = strings(seed + 2)
  const db = drizzle(database.sql)
  await Effect.runPromise(
    Effect.gen(function* () {
      const inbox = yield* Inbox
      for (let run = 0; run < 10; run++) {
        yield* Effect.promise(() => database.sql`TRUNCATE outbox.inbox`)
        const scope = { consumer: text(), queue: text() }
        const arrival = (n: number): Arrival => ({
          messageId: `${n}${text()}`,
          destination: text(),
          key: text(),
          headers: { [text()]: text() },
          body: Buffer.from(text()),
        })
        const [one, two, three, four] = [arrival(1), arrival(2), arrival(3), arrival(4)] as const
        const words = text()
        const transact = <A>(body: Parameters<typeof inbox.transact<A>>[0]) =>
          inbox.transact(body, { statementMillis: 10_000 })
        assert.deepStrictEqual(yield* transact((tx) => inbox.claim(tx, scope, [one], true)), ["fresh"])
        assert.deepStrictEqual(yield* transact((tx) => inbox.claim(tx, scope, [one, two], true)), [
          "settled",
          "fresh",
        ])
        yield* transact((tx) => inbox.park(tx, scope, three, { attempts: 1, error: words, retryInMillis: 0 }))
        yield* transact((tx) => inbox.bury(tx, scope, four, { attempts: 1, error: words }))
        const rows = yield* Effect.promise(
          () => database.sql`
            SELECT consumer, queue, message_id AS "messageId", destination, key, state, last_error AS words, headers
            FROM outbox.inbox ORDER BY message_id COLLATE "C"`,
        )
        assert.deepStrictEqual(
          rows.map((row) => ({ ...row })),
          [
            ...[one, two].map((of) => ({
              ...scope,
              ...named(of),
              state: "handled",
              words: null,
              headers: null,
            })),
            { ...scope, ...named(three), state: "parked", words, headers: three.headers },
            { ...scope, ...named(four), state: "dead", words, headers: four.headers },
          ],
        )
        assert.isTrue(yield* transact((tx) => inbox.resume(tx, scope, three.messageId)))
      }
    }).pipe(Effect.provide(inboxLayer(db))),
  )
})

const named = ({ messageId, destination, key }: Arrival) => ({ messageId, destination, key })

it(`filters of the dead find what equals them, or holds the words as they stand (seed ${seed})`, async () => {
  const { text, below } = strings(seed + 3)
  const { sql } = database
  const values = Array.from({ length: 30 }, (_, n) => ({
    event: text(3),
    destination: `/topic/${text(3).replace(/[\r\n]/g, "_")}`,
    key: text(3),
    error: `${n} ${text(6)}`,
    consumer: text(3),
  }))
  const fill = async () => {
    await sql`TRUNCATE outbox.messages, outbox.inbox`
    for (const { event, destination, key, error, consumer } of values) {
      await sql`
        INSERT INTO outbox.messages (event, operation, destination, key, body, dead_at, last_error)
        VALUES (${event}, 'emit', ${destination}, ${key}, 'b', now(), ${error})`
      await sql`
        INSERT INTO outbox.inbox (consumer, message_id, queue, destination, key, state, headers, body, finished_at, last_error)
        VALUES (${consumer}, ${error}, 'q', ${destination}, ${key}, 'dead', ${JSON.stringify({ "outbox-event": event })}::text::json, 'b', now(), ${error})`
    }
  }
  await fill()
  const lower = (one: string) => one.toLowerCase()
  const matching = (filter: { event?: string; destination?: string; key?: string; error?: string }): number =>
    values.filter(
      (one) =>
        (filter.event ?? one.event) === one.event &&
        (filter.destination ?? one.destination) === one.destination &&
        (filter.key ?? one.key) === one.key &&
        lower(one.error).includes(lower(filter.error ?? "")),
    ).length
  for (let run = 0; run < 30; run++) {
    const pick = values[below(values.length)] as (typeof values)[number]
    const part = run % 3 === 0 ? text(2) : [...pick.error].slice(below(4), 4 + below(6)).join("")
    for (const filter of [
      { event: pick.event },
      { destination: pick.destination },
      { key: pick.key },
      { error: part },
      { event: text(), error: part },
    ]) {
      const wanted = matching(filter)
      assert.strictEqual(await countDead(sql, "outbox", filter), wanted, JSON.stringify(filter))
      assert.strictEqual(await countInboxDead(sql, "outbox", filter), wanted, JSON.stringify(filter))
    }
    const ours = { consumer: pick.consumer, ids: [pick.error, text()] }
    assert.strictEqual((await readInboxDeadMessages(sql, "outbox", ours)).length, 1)
    assert.isAtLeast((await readDead(sql, "outbox", { key: pick.key }, 50)).length, 1)
    assert.isAtLeast((await readInboxDead(sql, "outbox", { consumer: pick.consumer }, 50)).length, 1)
  }
  const stranger = { error: "'; DELETE FROM outbox.messages; --", event: "' OR true --" }
  for (const work of [requeueDead, discardDead, requeueInboxDead, discardInboxDead]) {
    const batch = { ...everything, until: await readNow(sql) }
    assert.lengthOf(await work(sql, "outbox", stranger, batch), 0)
    const [{ error }] = values as [(typeof values)[number]]
    assert.lengthOf(await work(sql, "outbox", { error }, batch), matching({ error }), work.name)
    await fill()
  }
})

describe("a schema's name", () => {
  const odd = [
    'a"b',
    "a'b",
    "a$$b",
    "$q$a$$",
    "a\nb",
    "x'; --",
    '"; DROP TABLE canary; --',
    "$&$1$`",
    "é漢😀",
    "A b.c",
    "ä".repeat(31),
  ]

  it.each(odd)("may be %j", async (schema) => {
    const empty = await createDatabase({ template: "none" })
    const sql = postgres(empty.url, { max: 3, onnotice: () => {} })
    try {
      await sql`CREATE TABLE canary ()`
      assert.lengthOf(await Effect.runPromise(migrate(sql, schema)), migrations(schema).length)
      assert.deepStrictEqual(await Effect.runPromise(migrate(sql, schema)), [])
      const [row] = await sql.unsafe(
        `SELECT ${quoteSchema(schema)}.emit('e', '/topic/e', 'b') IS NOT NULL AS emitted,
                ${quoteSchema(schema)}.inbox_claim_one('c', 'q', 'm', '/topic/e', 'k', true) AS claim`,
      )
      assert.deepStrictEqual({ ...row }, { emitted: true, claim: "fresh" })
      const schemas =
        await sql`SELECT nspname AS name FROM pg_namespace WHERE nspname !~ '^(pg_|information_schema|public)'`
      assert.deepStrictEqual(
        schemas.map(({ name }) => name),
        [schema],
      )
      await sql`SELECT * FROM canary`
      const wakes = await Effect.runPromise(
        Effect.scoped(
          Effect.gen(function* () {
            let heard = 0
            yield* Effect.flatMap(Wakeup, ({ listen }) => listen(() => heard++))
            yield* OutboxStore
            const { nudge } = Nudge.notify(sql, schema)
            return yield* Effect.promise(() =>
              eventually(() => {
                nudge()
                assert.isAbove(heard, 1)
                return heard
              }),
            )
          }).pipe(
            Effect.provide(
              Layer.mergeAll(
                layerListen({ url: empty.url, schema }),
                layerPostgres({ url: empty.url, schema }),
              ),
            ),
          ),
        ),
      )
      assert.isAbove(wakes, 1)
    } finally {
      await sql.end()
      await empty.drop()
    }
  })

  it("is refused where PostgreSQL could not keep it", () => {
    for (const name of ["", "a\0b", "\ud800", "x".repeat(64), "ä".repeat(32)]) {
      assert.throws(() => quoteSchema(name), RangeError, /is no name for a PostgreSQL schema/)
      assert.throws(() => printMigrations(name), RangeError)
    }
  })

  it("gives a channel of its own, however long", () => {
    const names = ["outbox", "x".repeat(63), `${"x".repeat(62)}y`, "ä".repeat(31)]
    const channels = names.map(channelOf)
    assert.strictEqual(new Set(channels).size, names.length)
    for (const channel of channels) assert.isAtMost(Buffer.byteLength(channel), 63)
  })
})

describe("what somebody has put into a caller's search_path", () => {
  const traps = `
    CREATE SCHEMA trap;
    CREATE FUNCTION trap.caught() RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'caught as %', current_user; END $$;
    CREATE FUNCTION trap.set_bit(bytea, integer, integer) RETURNS bytea LANGUAGE sql AS 'SELECT trap.caught(), $1';
    CREATE FUNCTION trap.encode(bytea, text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN PERFORM trap.caught(); END $$;
    CREATE FUNCTION trap.clock_timestamp() RETURNS timestamptz LANGUAGE plpgsql AS $$ BEGIN PERFORM trap.caught(); END $$;
    CREATE FUNCTION trap.hashtextextended(text, integer) RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN PERFORM trap.caught(); END $$;
    CREATE FUNCTION trap.pg_advisory_xact_lock(bigint) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM trap.caught(); END $$;
    CREATE FUNCTION trap.pg_try_advisory_xact_lock(bigint) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN PERFORM trap.caught(); END $$;
    CREATE FUNCTION trap.json_array_length(json) RETURNS integer LANGUAGE plpgsql AS $$ BEGIN PERFORM trap.caught(); END $$;
    CREATE FUNCTION trap.eq(text, text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN PERFORM trap.caught(); END $$;
    CREATE OPERATOR trap.= (LEFTARG = text, RIGHTARG = text, FUNCTION = trap.eq);
    CREATE FUNCTION trap.times(numeric, integer) RETURNS numeric LANGUAGE plpgsql AS $$ BEGIN PERFORM trap.caught(); END $$;
    CREATE OPERATOR trap.* (LEFTARG = numeric, RIGHTARG = integer, FUNCTION = trap.times);
    CREATE FUNCTION trap.joined(text, text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN PERFORM trap.caught(); END $$;
    CREATE OPERATOR trap.|| (LEFTARG = text, RIGHTARG = text, FUNCTION = trap.joined);`

  it.each(["trap, pg_catalog", "trap"])("is not called by the outbox's functions (%s)", async (path) => {
    const trapped = await createDatabase()
    try {
      await trapped.sql.unsafe(
        traps.replace("'SELECT trap.caught(), $1'", "'SELECT trap.caught(); SELECT $1'"),
      )
      await trapped.sql.begin(async (tx) => {
        await tx.unsafe(`SET LOCAL search_path = ${path}`)
        await tx.unsafe(`SELECT outbox.uuid_v7(), outbox.emit('e', '/topic/e', 'b', 'k', 'v1')`)
        for (const call of [
          'inbox_claim(\'c\', \'q\', \'[{"i":"1","d":"/t","k":"k"}]\', true)',
          "inbox_claim_one('c', 'q', '2', '/t', 'k', true)",
          "inbox_park('c', 'q', '3', '/t', 'k', '{}', 'b', 1, 'e', 0, true)",
          "inbox_park('c', 'q', '4', '/t', 'k', '{}', 'b', 1, 'e', NULL, true)",
          "inbox_resume('c', '3', true)",
          "inbox_bury('c', 'q', '5', '/t', 'k', '{}', 'b', 1, 'e', true)",
          "inbox_try_resume('c', '6')",
          "inbox_promote('c', 'q', 'k')",
        ])
          await tx.unsafe(`SELECT outbox.${call}`)
      })
    } finally {
      await trapped.drop()
    }
  })

  it("is not called by the relay, nor by migrate", async () => {
    const trapped = await createDatabase({ template: "none" })
    try {
      await trapped.sql.unsafe(
        traps.replace("'SELECT trap.caught(), $1'", "'SELECT trap.caught(); SELECT $1'"),
      )
      const name = new URL(trapped.url).pathname.slice(1)
      await trapped.sql.unsafe(`ALTER DATABASE ${name} SET search_path = trap, pg_catalog`)
      const sql = postgres(trapped.url, { max: 1, onnotice: () => {}, fetch_types: false })
      await Effect.runPromise(migrate(sql))
      await sql.end()
      await Effect.runPromise(
        Effect.flatMap(OutboxStore, (store) =>
          store.tick({
            relay: "00000000-0000-4000-8000-00000000000a",
            name: "r",
            leaseMillis: 1000,
            renew: true,
            floor: 0,
            state: "{}",
          }),
        ).pipe(Effect.provide(layerPostgres({ url: trapped.url }))),
      )
    } finally {
      await trapped.drop()
    }
  })

  it("could change no function: none runs with its owner's rights, and each has its own path or none to look in", async () => {
    const functions = await database.sql`
      SELECT p.proname AS name, p.prosecdef AS definer, p.prosrc AS source,
             EXISTS (SELECT FROM unnest(p.proconfig) c WHERE c LIKE 'search_path=pg_catalog%') AS fixed
      FROM pg_proc p WHERE p.pronamespace = 'outbox'::regnamespace`
    assert.isAtLeast(functions.length, 10)
    for (const { name, definer, fixed, source } of functions) {
      assert.isFalse(definer, name)
      if (fixed) continue
      const bare = String(source).replace(/pg_catalog\.\w+|"outbox"\."\w+"/g, "")
      assert.notMatch(bare, /\b[a-z_]+\(|[^(.]\*|::(?!pg_catalog| )[a-z]/, name)
    }
  })
})
