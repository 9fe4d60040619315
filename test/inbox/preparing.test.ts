/** Statements that come with every message are parsed once a connection, and only where postgres.js may. */
import { eq, sql } from "drizzle-orm"
import { integer, pgTable } from "drizzle-orm/pg-core"
import { drizzle } from "drizzle-orm/postgres-js"
import { Context, Effect, Layer } from "effect"
import postgres from "postgres"
import { afterAll, beforeAll, expect, it } from "vitest"
import { Inbox, layerPostgres, RolledBack } from "../../src/inbox/index.ts"
import { makePreparing } from "../../src/inbox/preparing.ts"
import { makeStatements } from "../../src/inbox/statements.ts"
import type { AnyTransaction } from "../../src/outbox/append.ts"
import { createDatabase, type TestDatabase } from "../support/postgres.ts"

const effects = pgTable("effects", { id: integer().primaryKey() })
const scope = { consumer: "billing", queue: "q" }
const arrival = (messageId: string) => ({
  messageId,
  destination: "/queue/q",
  key: "k",
  headers: {},
  body: new Uint8Array(),
})

let database: TestDatabase
beforeAll(async () => {
  database = await createDatabase()
  await database.sql`CREATE TABLE effects (id integer PRIMARY KEY)`
})
afterAll(() => database.drop())

let drawn = 0
/** Claims and handles one message after the other on one connection. */
const connect = async (prepare: boolean) => {
  const client = postgres(database.url, { max: 1, prepare, onnotice: () => {} })
  const context = await Effect.runPromise(Effect.scoped(Layer.build(layerPostgres(drizzle({ client })))))
  const handle = <A>(body: (tx: AnyTransaction) => Promise<A>) =>
    Context.get(context, Inbox).transact(body, {
      statementMillis: 10_000,
      claim: { scope, arrivals: [arrival(`m${++drawn}`)], ordered: true },
    })
  const prepared = async (text: string) =>
    (await client.unsafe("SELECT statement FROM pg_prepared_statements")).filter((row) =>
      row["statement"].includes(text),
    ).length
  return {
    handle: <A>(body: (tx: AnyTransaction) => Promise<A>) => Effect.runPromise(handle(body)),
    prepared,
    flip: <A>(body: (tx: AnyTransaction) => Promise<A>) => Effect.runPromise(Effect.flip(handle(body))),
    close: () => client.end(),
  }
}

it("prepares the claim, and a handler's statement from its second time on", async () => {
  const { handle, prepared, close } = await connect(true)
  await handle((tx) => tx.insert(effects).values({ id: 1 }))
  expect(await prepared("inbox_claim_one")).toBe(1)
  expect(await prepared('insert into "effects"')).toBe(0)
  for (const id of [2, 3, 4])
    await handle((tx) => tx.transaction((inner) => inner.insert(effects).values({ id })))
  expect(await prepared('insert into "effects"')).toBe(1)
  expect(await database.sql`SELECT id FROM effects ORDER BY id`).toHaveLength(4)
  await close()
})

it("prepares nothing where postgres.js is told not to", async () => {
  const { handle, prepared, close } = await connect(false)
  for (const id of [11, 12, 13]) await handle((tx) => tx.insert(effects).values({ id }))
  expect(await prepared("")).toBe(0)
  expect(await database.sql`SELECT id FROM effects WHERE id > 10`).toHaveLength(3)
  await close()
})

it("asks for another try when a table has changed under a prepared statement, once, whoever caught it", async () => {
  const { handle, flip, close } = await connect(true)
  const all = (tx: AnyTransaction) => tx.execute(sql`SELECT * FROM effects WHERE id <> ${0}`)
  for (let n = 0; n < 3; n++) await handle(all)
  await database.sql`ALTER TABLE effects ADD COLUMN note text`
  const failed = await flip((tx) => tx.transaction(all).catch(() => "caught"))
  expect(failed).toBeInstanceOf(RolledBack)
  expect(failed).toMatchObject({ again: true })
  await handle(all)
  // What is wrong in itself is no reason for more.
  const wrong = (tx: AnyTransaction) => tx.execute(sql`SELECT * FROM missing WHERE id <> ${0}`)
  expect(await flip(wrong)).toMatchObject({ again: false })
  expect(await flip(wrong)).toMatchObject({ again: true })
  expect(await flip(wrong)).toMatchObject({ again: false })
  await handle((tx) => tx.delete(effects).where(eq(effects.id, 1)))
  await close()
})

it("claims nothing outside the transaction that it opens", async () => {
  const { text, parameters } = makeStatements("outbox").claimPrepared(scope, arrival("lone"), true, 1000)
  expect(await database.sql.unsafe(text, parameters as string[], { prepare: true })).toHaveLength(0)
  const recorded = () => database.sql`SELECT FROM outbox.inbox WHERE message_id = 'lone'`
  expect(await recorded()).toHaveLength(0)
  await database.sql.begin("DEFERRABLE", async (tx) => {
    expect([...(await tx.unsafe(text, parameters as string[], { prepare: true }))]).toEqual([
      expect.objectContaining({ claim: "fresh" }),
    ])
  })
  expect(await recorded()).toHaveLength(1)
})

it("remembers and prepares a bounded number of texts", () => {
  const preparing = makePreparing()
  const wanted = (text: string) => [preparing.wants(text), preparing.wants(text)]
  for (let n = 0; n < 5000; n++) preparing.wants(`SELECT ${n}`)
  expect(wanted("x".repeat(5000))).toEqual([false, false])
  for (let n = 0; n < 100; n++) expect(wanted(`INSERT ${n}`)).toEqual([false, true])
  expect(wanted("one too many")).toEqual([false, false])
  expect(preparing.wants("INSERT 7")).toBe(true)
})
