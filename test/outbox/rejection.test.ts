/** What is refused takes its transaction with it, even when the caller catches the error. */
import { sql } from "drizzle-orm"
import { Schema } from "effect"
import { describe, expect, it } from "vitest"
import { defineOutbox, OutboxError } from "../../src/index.ts"
import { items, notes, useDatabase } from "./database.ts"

const test = useDatabase()

/** A Standard Schema that is not Effect's. */
const standard = (accepts: (value: unknown) => boolean, later = false) => ({
  "~standard": {
    version: 1 as const,
    vendor: "test",
    validate: (value: unknown) => {
      const result = accepts(value) ? { value: "another" } : { issues: [{ message: "no such thing" }] }
      return later ? Promise.resolve(result) : result
    },
  },
})

const cyclic: { self?: unknown } = {}
cyclic.self = cyclic
const deep = (levels: number): unknown => {
  let value: unknown = 1
  for (let i = 0; i < levels; i++) value = [value]
  return value
}

const bodies: readonly (readonly [string, OutboxError["reason"], () => unknown])[] = [
  ["undefined", "unencodable", () => undefined],
  ["NaN", "unencodable", () => ({ a: [1, Number.NaN] })],
  ["an infinity", "unencodable", () => Number.POSITIVE_INFINITY],
  ["a function", "unencodable", () => ({ f: () => 1 })],
  ["a Map", "unencodable", () => new Map()],
  ["an invalid date", "unencodable", () => new Date("x")],
  ["a cycle", "unencodable", () => cyclic],
  ["endless nesting", "unencodable", () => deep(1_000_000)],
  ["too much", "too-large", () => "x".repeat(1_048_575)],
  [
    "an exception",
    "callback",
    () => {
      throw new Error("mine")
    },
  ],
]

it.each(bodies)(
  "a body of %s is refused as %s and cannot be committed without",
  async (_, reason, serializer) => {
    const { withOutbox } = defineOutbox({ items: { table: items, destination: "/q", serializer } })
    const caught = await refusal((tx) => withOutbox(tx, items, { id: 1, name: "a" }))
    expect(caught).toMatchObject({ reason, event: "items" })
    expect(caught.message).toContain('event "items": ')
  },
)

/** Runs `work` in a transaction, catches its error, and commits: nothing may be there. */
const refusal = async (work: (tx: Tx) => Promise<unknown>): Promise<OutboxError> => {
  let caught: unknown
  await test.db
    .transaction(async (tx) => {
      await work(tx).catch((error) => {
        caught = error
      })
    })
    .catch(() => {})
  expect(await test.db.select().from(items)).toEqual([])
  expect(await test.messages()).toEqual([])
  expect(caught).toBeInstanceOf(OutboxError)
  return caught as OutboxError
}
type Tx = Parameters<Parameters<typeof test.db.transaction>[0]>[0]

it("loses only the savepoint in which the call was refused", async () => {
  const { withOutbox } = defineOutbox({
    items: { table: items, destination: "/q", when: (i) => i.id !== 2 || never() },
  })
  await test.db.transaction(async (tx) => {
    await withOutbox(tx, items, { id: 1, name: "a" })
    await tx
      .transaction(async (inner) => {
        await withOutbox(inner, items, { id: 2, name: "b" }).catch(() => {})
      })
      .catch(() => {})
    await withOutbox(tx, items, { id: 3, name: "c" })
  })
  expect((await test.db.select().from(items)).map((item) => item.id)).toEqual([1, 3])
  expect((await test.messages()).map((m) => m.key)).toEqual(["1", "3"])
})

const never = (): never => {
  throw new Error("never")
}

const HOSTILE = ["a\rb", "a\nb", "a\0b", "\ud800"]

describe.each(HOSTILE)("the text %j", (bad) => {
  const hostile: Record<string, [OutboxError["reason"], object, object?]> = {
    destination: ["destination", { destination: () => bad }],
    "destination among others": ["destination", { destination: () => ["/ok", bad] }],
    key: ["key", { destination: "/q", key: () => bad }],
    "header value": ["headers", { destination: "/q", headers: () => ({ a: bad }) }],
    "header name": ["headers", { destination: "/q", headers: () => ({ [bad]: "a" }) }],
    "header of the call": ["headers", { destination: "/q" }, { headers: { a: bad } }],
    "correlation id": ["headers", { destination: "/q" }, { correlationId: bad }],
    "causation id": ["headers", { destination: "/q" }, { causationId: bad }],
    traceparent: ["headers", { destination: "/q" }, { traceparent: bad }],
  }
  it.each(Object.keys(hostile))("is refused as %s", async (place) => {
    const [reason, event, options] = hostile[place]!
    const { withOutbox } = defineOutbox({ items: { table: items, ...event } } as never) as unknown as Loose
    expect(await refusal((tx) => withOutbox(tx, items, { id: 1, name: "a" }, options))).toMatchObject({
      reason,
    })
  })
})
type Loose = { withOutbox: (...args: unknown[]) => Promise<unknown> }

const computed: readonly (readonly [string, OutboxError["reason"], object])[] = [
  ["an empty destination", "destination", { destination: () => "" }],
  ["no destination", "destination", { destination: () => undefined }],
  ["a reserved header", "headers", { destination: "/q", headers: () => ({ "Outbox-Key": "a" }) }],
  ["a header of no string", "headers", { destination: "/q", headers: () => ({ a: 1 }) }],
  ["an undefined key", "key", { destination: "/q", key: () => undefined }],
  ["an invalid moment", "time", { destination: "/q", availableAt: () => new Date("x") }],
  ["bytes expected", "unencodable", { destination: "/q", contentType: "text/plain", serializer: () => 1 }],
  [
    "a lone surrogate",
    "unencodable",
    { destination: "/q", contentType: "text/plain", serializer: () => "a\udc00" },
  ],
]

it.each(computed)("%s is refused", async (_, reason, event) => {
  const { withOutbox } = defineOutbox({ items: { table: items, ...event } } as never) as unknown as Loose
  expect(await refusal((tx) => withOutbox(tx, items, { id: 1, name: "a" }))).toMatchObject({ reason })
})

it("takes every other text for what it is", async () => {
  const text = `'; DROP TABLE items; -- "$1 ${"$"}{x} \\ \u2028 😀 é: ü\t`
  const { withOutbox } = defineOutbox(
    {
      items: {
        table: items,
        destination: () => text,
        version: text,
        key: () => text,
        headers: () => ({ [text]: text, ["__proto__"]: text }),
        serializer: () => text,
      },
      [text]: {
        table: items,
        destination: text,
        key: null,
        contentType: "text/plain",
        serializer: () => text,
      },
    } as never,
    {},
  ) as unknown as Loose
  await test.db.transaction((tx) => withOutbox(tx, items, { id: 1, name: text }, { correlationId: text }))
  const [first, second] = await test.messages()
  expect(first).toMatchObject({
    destination: `${text}.${text}`,
    version: text,
    key: text,
    body: JSON.stringify(text),
  })
  expect(Object.entries(first?.headers ?? {})).toEqual([
    [text, text],
    ["__proto__", text],
    ["outbox-correlation-id", text],
  ])
  expect(second).toMatchObject({ event: text, destination: text, key: null, body: text })
})

it("takes a body at the limit and refuses one byte more", async () => {
  const { withOutbox } = defineOutbox(
    {
      items: {
        table: items,
        destination: "/q",
        contentType: "text/plain",
        serializer: (i) => "é".repeat(5) + i.name,
      },
    },
    { maxBodyBytes: 11 },
  )
  await test.db.transaction((tx) => withOutbox(tx, items, { id: 1, name: "a" }))
  await expect(
    test.db.transaction((tx) => withOutbox(tx, items, { id: 2, name: "ab" })),
  ).rejects.toMatchObject({
    reason: "too-large",
  })
  const mebibyte = defineOutbox({ items: { table: items, destination: "/q", serializer: (i) => i.name } })
  await test.db.transaction((tx) => mebibyte.withOutbox(tx, items, { id: 3, name: "x".repeat(1_048_574) }))
  expect((await test.messages()).map((m) => m.body?.length)).toEqual([6, 1_048_576])
})

it("refuses more rows than a call may have, before or after it wrote them", async () => {
  const { withOutbox } = defineOutbox({ items: { table: items, destination: "/q" } }, { maxRows: 2 })
  const rows = [1, 2, 3].map((id) => ({ id, name: "a" }))
  expect(await refusal((tx) => withOutbox(tx, items, rows))).toMatchObject({ reason: "too-many-rows" })
  expect(test.log.some((query) => query.includes("insert into"))).toBe(false)
  await test.db.insert(items).values(rows)
  await test.db
    .transaction((tx) => withOutbox.update(tx, items, { name: "b" }, undefined).catch(() => {}))
    .catch(() => {})
  expect((await test.db.select().from(items)).map((item) => item.name)).toEqual(["a", "a", "a"])
})

it("refuses what is no transaction", async () => {
  const { withOutbox, emit } = defineOutbox({ items: { table: items, destination: "/q" } })
  for (const tx of [test.db, undefined, {}])
    await expect(withOutbox(tx as never, items, { id: 1, name: "a" })).rejects.toMatchObject({
      reason: "not-a-transaction",
    })
  await expect(emit(test.db as never, "items", {} as never)).rejects.toMatchObject({
    reason: "not-a-transaction",
  })
  expect(await test.db.select().from(items)).toEqual([])
})

it("refuses a table, an operation and an event that are not there", async () => {
  const { withOutbox, emit } = defineOutbox({
    items: { table: items, destination: "/q", operations: ["insert"] },
  }) as unknown as {
    withOutbox: { delete: Loose["withOutbox"] } & Loose["withOutbox"]
    emit: Loose["withOutbox"]
  }
  expect(await refusal((tx) => withOutbox(tx, notes, { note: "" }))).toMatchObject({ reason: "unbound" })
  expect(await refusal((tx) => withOutbox.delete(tx, items, undefined))).toMatchObject({
    reason: "operation",
  })
  expect(await refusal((tx) => emit(tx, "items", {}))).toMatchObject({ reason: "operation" })
  expect(await refusal((tx) => emit(tx, "itmes", {}))).toMatchObject({ reason: "unbound" })
})

it("needs a key where an event bound by name meets a table without a primary key", async () => {
  const { withOutbox } = defineOutbox({
    notes: { destination: "/q", serializer: (n: { note: string | null }) => n },
  })
  await expect(test.db.transaction((tx) => withOutbox(tx, notes, { note: "" }))).rejects.toMatchObject({
    reason: "key",
  })
})

it("passes the database's own error on, and a row that a trigger swallows is an error", async () => {
  const { withOutbox } = defineOutbox({ items: { table: items, destination: "/q" } })
  await expect(
    test.db.transaction((tx) => withOutbox(tx, items, { id: 1, name: sql`1 / 0` })),
  ).rejects.toMatchObject({ cause: { code: "22012" } })
  await test.sql.unsafe(`
    CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
    CREATE TRIGGER swallow BEFORE INSERT ON items FOR EACH ROW WHEN (NEW.name = 'gone') EXECUTE FUNCTION swallow()`)
  expect(await refusal((tx) => withOutbox(tx, items, { id: 1, name: "gone" }))).toMatchObject({
    reason: "not-written",
  })
})

it("encodes with an Effect Schema and refuses what it does not accept", async () => {
  const schema = Schema.Struct({ id: Schema.BigInt, at: Schema.Date })
  const at = new Date("2026-01-02T03:04:05.678Z")
  const { withOutbox } = defineOutbox({
    items: {
      table: items,
      destination: "/q",
      schema,
      serializer: (i) => (i.id === 1 ? { id: 1n, at, more: 1 } : { id: i.id }),
    },
  })
  await test.db.transaction((tx) => withOutbox(tx, items, { id: 1, name: "a" }))
  const [message] = await test.messages()
  expect(message?.body).toBe('{"id":"1","at":"2026-01-02T03:04:05.678Z"}')
  expect(Schema.decodeUnknownSync(Schema.fromJsonString(Schema.toCodecJson(schema)))(message?.body)).toEqual({
    id: 1n,
    at,
  })
  await test.sql`TRUNCATE items, outbox.messages`
  expect(await refusal((tx) => withOutbox(tx, items, { id: 2, name: "a" }))).toMatchObject({
    reason: "schema",
  })
})

it.each([false, true])(
  "checks the JSON with a Standard Schema and stores the value itself (later: %s)",
  async (later) => {
    const schema = standard((value) => (value as { name: string }).name === "a", later)
    const { withOutbox } = defineOutbox({
      items: { table: items, destination: "/q", fields: ["name"], schema },
    })
    await test.db.transaction((tx) => withOutbox(tx, items, { id: 1, name: "a" }))
    expect((await test.messages()).map((m) => m.body)).toEqual(['{"name":"a"}'])
    await test.sql`TRUNCATE items, outbox.messages`
    expect(await refusal((tx) => withOutbox(tx, items, { id: 2, name: "b" }))).toMatchObject({
      reason: "schema",
    })
  },
)
