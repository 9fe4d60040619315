/** A database with the outbox's tables and some of a user's own, and a log of the statements that go to it. */
import { asc, sql } from "drizzle-orm"
import {
  bigint,
  integer,
  numeric,
  pgSchema,
  pgTable,
  pgTableCreator,
  primaryKey,
  text,
  timestamp,
  uuid,
} from "drizzle-orm/pg-core"
import { drizzle } from "drizzle-orm/postgres-js"
import { afterAll, beforeAll, beforeEach } from "vitest"
import { messages } from "../../src/schema.ts"
import { createDatabase, type TestDatabase } from "../support/postgres.ts"

export const orders = pgTable("orders", {
  id: uuid().primaryKey().defaultRandom(),
  customerId: text("customer_id").notNull(),
  total: numeric().notNull(),
  at: timestamp({ withTimezone: true }),
})
export const items = pgTable("items", {
  id: integer().primaryKey(),
  name: text().notNull(),
  twice: integer().generatedAlwaysAs(sql`id * 2`),
})
export const seats = pgTable(
  "seats",
  { room: text().notNull(), number: bigint({ mode: "bigint" }).notNull(), guest: text() },
  (t) => [primaryKey({ columns: [t.room, t.number] })],
)
export const notes = pgTable("notes", { note: text() })
export const parcels = pgSchema("shop").table("parcels", { id: integer().primaryKey(), name: text() })
export const invoices = pgTableCreator((name) => `app_${name}`)("invoices", { id: integer().primaryKey() })

const TABLES = `
  CREATE TABLE orders (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), customer_id text NOT NULL, total numeric NOT NULL, at timestamptz);
  CREATE TABLE items (id integer PRIMARY KEY, name text NOT NULL, twice integer GENERATED ALWAYS AS (id * 2) STORED);
  CREATE TABLE seats (room text NOT NULL, number bigint NOT NULL, guest text, PRIMARY KEY (room, number));
  CREATE TABLE notes (note text);
  CREATE SCHEMA shop;
  CREATE TABLE shop.parcels (id integer PRIMARY KEY, name text);
  CREATE TABLE app_invoices (id integer PRIMARY KEY);`

/** Registers the hooks of a test file; each test starts with empty tables and an empty log. */
export const useDatabase = () => {
  let database: TestDatabase
  const log: string[] = []
  const connect = () =>
    drizzle(database.sql, { logger: { logQuery: (query) => log.push(query) }, schema: { orders, items } })
  let db: ReturnType<typeof connect>
  beforeAll(async () => {
    database = await createDatabase()
    await database.sql.unsafe(TABLES)
    db = connect()
  })
  beforeEach(async () => {
    await database.sql.unsafe(
      `TRUNCATE orders, items, seats, notes, shop.parcels, app_invoices; TRUNCATE outbox.messages RESTART IDENTITY`,
    )
    log.length = 0
  })
  afterAll(() => database.drop())
  return {
    /** The statements so far, without those that begin and end transactions. */
    log,
    get db() {
      return db
    },
    get sql() {
      return database.sql
    },
    get url() {
      return database.url
    },
    /** All messages in order of position. */
    messages: () => drizzle(database.sql).select().from(messages).orderBy(asc(messages.position)),
  }
}
