import { eq, gt, sql } from "drizzle-orm"
import { drizzle as drizzleNode } from "drizzle-orm/node-postgres"
import { expect, it } from "vitest"
import { defineOutbox } from "../../src/index.ts"
import { nodePostgresPool } from "../support/node-postgres.ts"
import { invoices, items, notes, orders, parcels, seats, useDatabase } from "./database.ts"

const test = useDatabase()

const { withOutbox, emit, events } = defineOutbox({
  orders: {
    table: orders,
    destination: "/topic/orders",
    version: "v2",
    key: (o) => o.customerId,
    headers: (o) => ({ customer: o.customerId, kind: "order" }),
    serializer: (o) => ({ order_id: o.id, total: o.total, at: o.at }),
  },
  items: {
    table: items,
    publish: [
      {
        destination: ["/topic/items", "/topic/copies"],
        version: "v1",
        serializer: (i) => ({ n: i.id, twice: i.twice }),
      },
      { destination: (i, { operation }) => `/queue/${operation}/${i.name}`, fields: ["name", "id"] },
    ],
  },
  "item.inserted": { table: items, operations: ["insert"], destination: "/topic/inserted", key: null },
  seats: { table: seats, destination: "/topic/seats", fields: ["guest"], old: false },
  parcels: { destination: "/topic/parcels", serializer: (p: { id: number }) => p.id },
  invoices: { destination: "/topic/invoices", serializer: (p: { id: number }) => p.id },
  "order.cancelled": { destination: "/topic/cancelled", serializer: (c: { id: string }) => ({ id: c.id }) },
})

it("returns Drizzle's own row and writes its message with one statement more", async () => {
  const at = new Date("2026-01-02T03:04:05.678Z")
  const row = await test.db.transaction((tx) =>
    withOutbox(
      tx,
      orders,
      { customerId: "c1", total: "100.10", at },
      {
        correlationId: "k",
        causationId: "m",
        traceparent: "00-1-2-01",
        headers: { kind: "first", extra: "é" },
      },
    ),
  )
  expect(row).toEqual({ id: expect.any(String), customerId: "c1", total: "100.10", at })
  expect(test.log).toHaveLength(2)
  const [message, ...others] = await test.messages()
  expect(others).toEqual([])
  expect(message).toMatchObject({
    event: "orders",
    operation: "insert",
    destination: "/topic/orders.v2",
    version: "v2",
    key: "c1",
    headers: {
      customer: "c1",
      kind: "first",
      extra: "é",
      "outbox-correlation-id": "k",
      "outbox-causation-id": "m",
      traceparent: "00-1-2-01",
    },
    contentType: "application/json",
    body: `{"order_id":"${row.id}","total":"100.10","at":"2026-01-02T03:04:05.678Z"}`,
    bodyBytes: null,
    availableAt: null,
    expiresAt: null,
    attempts: 0,
    publishedAt: null,
    deadAt: null,
  })
  expect(message?.id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab]/)
  expect(message?.eventId).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab]/)
})

it("writes any number of rows, events and publications with one statement more, in order", async () => {
  const rows = await test.db.transaction((tx) =>
    withOutbox(tx, items, [
      { id: 3, name: "c" },
      { id: 1, name: "a" },
      { id: 2, name: "b" },
    ]),
  )
  expect(rows).toEqual([
    { id: 3, name: "c", twice: 6 },
    { id: 1, name: "a", twice: 2 },
    { id: 2, name: "b", twice: 4 },
  ])
  expect(test.log).toHaveLength(2)
  const messages = await test.messages()
  expect(messages.map(({ destination, body, key }) => [destination, body, key])).toEqual(
    [3, 1, 2].flatMap((n) => {
      const name = "-abc"[n]
      return [
        ["/topic/items.v1", `{"n":${n},"twice":${2 * n}}`, `${n}`],
        ["/topic/copies.v1", `{"n":${n},"twice":${2 * n}}`, `${n}`],
        [`/queue/insert/${name}`, `{"name":"${name}","id":${n}}`, `${n}`],
        ["/topic/inserted", `{"id":${n},"name":"${name}","twice":${2 * n}}`, null],
      ]
    }),
  )
  // One event id for a row's publications of an event, another for each other row and event; every message has its own id.
  expect(new Set(messages.map((m) => m.id)).size).toBe(12)
  expect(new Set(messages.map((m) => m.eventId)).size).toBe(6)
  for (const start of [0, 4, 8])
    expect(new Set(messages.slice(start, start + 3).map((m) => m.eventId)).size).toBe(1)
})

it("sends no statement for no rows", async () => {
  await test.db.transaction(async (tx) => {
    expect(await withOutbox(tx, items, [])).toEqual([])
    expect(await withOutbox.upsert(tx, items, [], { target: items.id, set: { name: "" } })).toEqual([])
  })
  expect(test.log).toEqual([])
})

it("updates and deletes in primary-key order, though RETURNING is in heap order", async () => {
  await test.db.insert(items).values([3, 1, 10, 2].map((id) => ({ id, name: "x" })))
  const heap = await test.db.update(items).set({ name: "y" }).returning({ id: items.id })
  expect(heap.map((row) => row.id)).toEqual([3, 1, 10, 2])
  test.log.length = 0
  const updated = await test.db.transaction((tx) =>
    withOutbox.update(tx, items, { name: "z" }, gt(items.id, 1)),
  )
  expect(updated.map((row) => row.id)).toEqual([2, 3, 10])
  expect(test.log).toHaveLength(2)
  const deleted = await test.db.transaction((tx) => withOutbox.delete(tx, items, undefined))
  expect(deleted.map((row) => row.id)).toEqual([1, 2, 3, 10])
  const messages = await test.messages()
  const first = messages.filter((m) => m.destination === "/topic/items.v1")
  expect(first.map((m) => [m.operation, m.key])).toEqual([
    ["update", "2"],
    ["update", "3"],
    ["update", "10"],
    ["delete", "1"],
    ["delete", "2"],
    ["delete", "3"],
    ["delete", "10"],
  ])
  expect(messages.some((m) => m.event === "item.inserted")).toBe(false)
})

it("upserts; what was not written makes no message", async () => {
  const upserted = await test.db.transaction(async (tx) => {
    await withOutbox.upsert(tx, items, { id: 2, name: "a" }, { target: items.id, set: { name: "b" } })
    const left = await withOutbox.upsert(
      tx,
      items,
      { id: 2, name: "a" },
      { target: items.id, set: { name: "c" }, setWhere: sql`false` },
    )
    expect(left).toBeUndefined()
    return withOutbox.upsert(
      tx,
      items,
      [
        { id: 2, name: "again" },
        { id: 1, name: "new" },
      ],
      { target: items.id, set: { name: sql`excluded.name || '!'` } },
    )
  })
  expect(upserted).toEqual([
    { id: 1, name: "new", twice: 2 },
    { id: 2, name: "again!", twice: 4 },
  ])
  const messages = (await test.messages()).filter((m) => m.version === null)
  expect(messages.map((m) => m.destination)).toEqual([
    "/queue/upsert/a",
    "/queue/upsert/new",
    "/queue/upsert/again!",
  ])
  expect(messages.every((m) => m.operation === "upsert")).toBe(true)
})

it("keys a row by its primary key: text as it is, numbers as digits, several columns as a JSON array", async () => {
  await test.db.transaction(async (tx) => {
    await withOutbox(tx, seats, { room: 'a"b', number: 9007199254740993n, guest: null })
    await withOutbox.update(tx, seats, { guest: "g", number: 7n }, eq(seats.room, 'a"b'))
    await withOutbox(tx, parcels, { id: 5, name: "p" })
    await withOutbox(tx, invoices, { id: 6 })
  })
  const messages = await test.messages()
  expect(messages.map((m) => [m.destination, m.key, m.body])).toEqual([
    ["/topic/seats", '["a\\"b","9007199254740993"]', '{"guest":null}'],
    ["/topic/seats", '["a\\"b","7"]', '{"guest":"g"}'],
    ["/topic/parcels", "5", "5"],
    ["/topic/invoices", "6", "6"],
  ])
})

it("keys a row by the property that is named, whatever is done to it; null has no order", async () => {
  const { withOutbox, emit } = defineOutbox({
    seats: { table: seats, destination: "/topic/seats", key: "guest", fields: ["number"] },
  })
  const seat = { room: "keyed", number: 1n, guest: null }
  await test.db.transaction(async (tx) => {
    await withOutbox(tx, seats, seat)
    await withOutbox.update(tx, seats, { guest: "12" }, eq(seats.room, "keyed"))
    await withOutbox.upsert(
      tx,
      seats,
      { ...seat, guest: "b" },
      { target: [seats.room, seats.number], set: { guest: "b" } },
    )
    await withOutbox.delete(tx, seats, eq(seats.room, "keyed"))
    await emit(tx, "seats", { ...seat, guest: "c" })
  })
  expect((await test.messages()).map((m) => [m.operation, m.key])).toEqual([
    ["insert", null],
    ["update", "12"],
    ["upsert", "b"],
    ["delete", "b"],
    ["emit", "c"],
  ])
  await expect(
    test.db.transaction((tx) => emit(tx, "seats", { room: "keyed", number: 1n } as never)),
  ).rejects.toMatchObject({ _tag: "OutboxError", reason: "key" })
})

it("binds by table or by the name given to pgTable, never to an unknown table", async () => {
  await expect(
    test.db.transaction((tx) => withOutbox(tx, notes as never, { note: "" } as never)),
  ).rejects.toMatchObject({
    _tag: "OutboxError",
    reason: "unbound",
  })
})

it("emits without a table, and what SQL's emit writes is the same column for column", async () => {
  const options = { headers: { a: "b" }, correlationId: "c" }
  await test.db.transaction((tx) => emit(tx, "order.cancelled", { id: "1" }, options))
  expect(test.log).toHaveLength(1)
  await test.sql`SELECT outbox.emit('order.cancelled', '/topic/cancelled', '{"id":"1"}',
    headers => '{"a":"b","outbox-correlation-id":"c"}')`
  const [ours, theirs] = await test.messages()
  const own = { position: 0n, id: "", eventId: "", createdAt: new Date(0), lane: 0 }
  expect({ ...ours, ...own }).toEqual({ ...theirs, ...own })
  const types =
    await test.sql`SELECT headers::text, pg_typeof(body)::text FROM outbox.messages ORDER BY position`
  expect(types[0]).toEqual(types[1])
})

it("matches SQL's emit with every argument given", async () => {
  const due = new Date(Date.now() + 3_600_000)
  const { emit } = defineOutbox({
    e: {
      destination: "/q",
      version: "v1",
      contentType: "text/plain",
      key: (s: string) => s,
      availableAt: () => due,
      timeToLive: "1 hour",
      serializer: (s: string) => s,
    },
  })
  await test.db.transaction((tx) => emit(tx, "e", "k"))
  const end = new Date(due.getTime() + 3_600_000)
  await test.sql`SELECT outbox.emit('e', '/q', 'k', 'k', 'v1', '{}', 'text/plain', 'emit', ${due.toISOString()}, ${end.toISOString()})`
  const [ours, theirs] = await test.messages()
  const own = { position: 0n, id: "", eventId: "", createdAt: new Date(0) }
  expect({ ...ours, ...own }).toEqual({ ...theirs, ...own })
})

it("suppresses with `when`, delays and bounds", async () => {
  const { withOutbox } = defineOutbox({
    items: {
      table: items,
      destination: "/q",
      when: (i, { operation, old }) => operation === "insert" && old === undefined && i.id > 1,
      delay: "1 hour",
      timeToLive: "1 minute",
    },
    past: { table: items, destination: "/p", availableAt: (i) => (i.id === 3 ? null : new Date(0)) },
    nowhere: { table: items, destination: () => [] },
  })
  const before = Date.now()
  await test.db.transaction(async (tx) => {
    await withOutbox(tx, items, [
      { id: 1, name: "a" },
      { id: 2, name: "b" },
    ])
    await withOutbox(tx, items, { id: 3, name: "c" }, { delay: "2 hours", timeToLive: 1000 })
  })
  const messages = await test.messages()
  expect(messages.map((m) => [m.destination, m.key])).toEqual([
    ["/p", "1"],
    ["/q", "2"],
    ["/p", "2"],
    ["/q", "3"],
    ["/p", "3"],
  ])
  const seconds = messages.map((m) =>
    [m.availableAt, m.expiresAt].map((d) => d && Math.round((d.getTime() - before) / 1000)),
  )
  expect(seconds[0]).toEqual([null, null])
  expect(seconds[1]?.[0]).toBeGreaterThanOrEqual(3600)
  expect((seconds[1]?.[1] ?? 0) - (seconds[1]?.[0] ?? 0)).toBe(60)
  expect(seconds[3]?.[0]).toBeGreaterThanOrEqual(7200)
  expect((seconds[3]?.[1] ?? 0) - (seconds[3]?.[0] ?? 0)).toBe(1)
})

it("with `old`, locks and reads the rows first and pairs them", async () => {
  const { withOutbox } = defineOutbox({
    items: {
      table: items,
      destination: "/q",
      old: true,
      serializer: (i, { old }) => [old?.name ?? null, i.name],
    },
  })
  await test.db.insert(items).values([3, 1, 2].map((id) => ({ id, name: `n${id}` })))
  test.log.length = 0
  await test.db.transaction((tx) => withOutbox.update(tx, items, { name: "new" }, gt(items.id, 1)))
  expect(test.log).toHaveLength(3)
  expect(test.log[0]).toMatch(/^select .* for update$/)
  await test.db.transaction(async (tx) => {
    await withOutbox.update(tx, items, { id: 20 }, eq(items.id, 2))
    await withOutbox.upsert(
      tx,
      items,
      [
        { id: 4, name: "four" },
        { id: 1, name: "one" },
      ],
      {
        target: items.id,
        set: { name: sql`excluded.name` },
      },
    )
    await withOutbox.delete(tx, items, eq(items.id, 4))
    expect(await withOutbox.update(tx, items, { name: "" }, eq(items.id, 99))).toEqual([])
  })
  expect((await test.messages()).map((m) => [m.operation, m.key, m.body])).toEqual([
    ["update", "2", '["n2","new"]'],
    ["update", "3", '["n3","new"]'],
    ["update", "20", '["new","new"]'],
    ["upsert", "1", '["n1","one"]'],
    ["upsert", "4", '[null,"four"]'],
    ["delete", "4", '["four","four"]'],
  ])
  await expect(
    test.db.transaction((tx) => withOutbox.update(tx, items, { id: sql`id + 100` }, undefined)),
  ).rejects.toMatchObject({ reason: "old" })
})

it("pairs old and new by a composite key", async () => {
  const { withOutbox } = defineOutbox({
    seats: {
      table: seats,
      destination: "/q",
      old: true,
      serializer: (s, { old }) => [s.room, s.number, old?.guest],
    },
  })
  await test.db.insert(seats).values([
    { room: "b", number: 1n, guest: "x" },
    { room: "a", number: 2n, guest: "y" },
    { room: "a", number: 1n, guest: "z" },
  ])
  await test.db.transaction((tx) => withOutbox.update(tx, seats, { guest: "new" }, undefined))
  expect((await test.messages()).map((m) => m.body)).toEqual([
    '["a","1","z"]',
    '["a","2","y"]',
    '["b","1","x"]',
  ])
})

it("sees the row that a concurrent transaction left, not the one before it", async () => {
  const { withOutbox } = defineOutbox({
    items: { table: items, destination: "/q", old: true, serializer: (i, { old }) => [old?.name, i.name] },
  })
  await test.db.insert(items).values({ id: 1, name: "first" })
  let waiting: Promise<unknown> = Promise.resolve()
  await test.db.transaction(async (other) => {
    await other.update(items).set({ name: "second" })
    waiting = test.db.transaction((tx) => withOutbox.update(tx, items, { name: "third" }, eq(items.id, 1)))
    await expect
      .poll(
        async () => (await test.sql`SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'`).length,
      )
      .toBeGreaterThan(0)
  })
  await waiting
  expect((await test.messages()).map((m) => m.body)).toEqual(['["second","third"]'])
})

it("writes 10,000 rows of many columns in their order", async () => {
  const rows = Array.from({ length: 10_000 }, (_, n) => ({ id: n, name: "n" }))
  const written = await test.db.transaction((tx) => withOutbox(tx, items, rows))
  expect(written).toHaveLength(10_000)
  const messages = (await test.messages()).filter((m) => m.event === "item.inserted")
  expect(messages.map((m) => m.body)).toEqual(
    rows.map(({ id }) => `{"id":${id},"name":"n","twice":${2 * id}}`),
  )
})

it("works on node-postgres alike", async () => {
  const pool = nodePostgresPool(test.url)
  try {
    await drizzleNode(pool).transaction((tx) => withOutbox(tx, items, { id: 1, name: "é" }))
    await expect(
      drizzleNode(pool).transaction(async (tx) => {
        await withOutbox(tx, items, { id: 2, name: "bad\r" }).catch(() => {})
      }),
    ).resolves.toBeUndefined()
  } finally {
    await pool.end()
  }
  expect((await test.messages()).map((m) => m.key)).toEqual(["1", "1", "1", null])
  expect(await test.db.select().from(items)).toHaveLength(1)
})

it("writes into another schema of the outbox", async () => {
  const { withOutbox } = defineOutbox({ items: { table: items, destination: "/q" } }, { schema: 'o"x' })
  await expect(test.db.transaction((tx) => withOutbox(tx, items, { id: 1, name: "a" }))).rejects.toThrow()
  expect(test.log.some((query) => query.includes('INSERT INTO "o""x"."messages"'))).toBe(true)
})

it("tells consumers what an event is", () => {
  expect(events.items).toEqual({
    name: "items",
    destinations: ["/topic/items.v1", "/topic/copies.v1"],
    publications: [
      {
        destinations: ["/topic/items.v1", "/topic/copies.v1"],
        version: "v1",
        contentType: "application/json",
        schema: undefined,
      },
      { destinations: undefined, version: undefined, contentType: "application/json", schema: undefined },
    ],
  })
})
