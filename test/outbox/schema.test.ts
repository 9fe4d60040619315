/** The Drizzle tables and the migrations say the same. */
import { getTableColumns, is, SQL } from "drizzle-orm"
import { getTableConfig, type PgColumn, PgDialect, type PgTable } from "drizzle-orm/pg-core"
import { drizzle } from "drizzle-orm/postgres-js"
import type { ReservedSql } from "postgres"
import { afterAll, beforeAll, expect, it } from "vitest"
import {
  consumers,
  inbox,
  lanes,
  messages,
  migrations,
  outboxSchema,
  relays,
  subscriptions,
} from "../../src/schema.ts"
import { createDatabase, type TestDatabase } from "../support/postgres.ts"

let database: TestDatabase
let sql: ReservedSql
beforeAll(async () => {
  database = await createDatabase()
  // One connection: the temporary tables below are its own.
  sql = await database.sql.reserve()
})
afterAll(async () => {
  sql.release()
  await database.drop()
})

const tables: Record<string, PgTable> = {
  messages,
  relays,
  lanes,
  inbox,
  consumers,
  subscriptions,
  migrations,
}

/** PostgreSQL's own wording of an expression, by which two spellings compare. */
const dialect = new PgDialect()
const written = (value: unknown): string => {
  if (is(value, SQL)) return dialect.sqlToQuery(value.inlineParams()).sql
  return typeof value === "object"
    ? `'${JSON.stringify(value)}'`
    : typeof value === "string"
      ? `'${value}'`
      : String(value)
}

it("has every table of the migrations and no other", async () => {
  const rows = await sql`SELECT tablename FROM pg_tables WHERE schemaname = 'outbox' ORDER BY 1`
  expect(rows.map((row) => row["tablename"])).toEqual(Object.keys(tables).sort())
})

it.each(Object.keys(tables))("%s: columns, types, nullability, defaults, generation", async (name) => {
  const rows = await sql`
    SELECT a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type, a.attnotnull AS "notNull",
      a.attidentity AS identity, a.attgenerated AS generated, pg_get_expr(d.adbin, d.adrelid) AS expression
    FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE a.attrelid = ${`outbox.${name}`}::regclass AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum`
  const columns: PgColumn[] = Object.values(getTableColumns(tables[name]!))
  expect(
    columns.map((column) => ({
      name: column.name,
      type: column.getSQLType().replace(/\s+\(/, "("),
      notNull: column.notNull || column.primary,
      identity: column.generatedIdentity ? "a" : "",
      generated: column.generated ? "s" : "",
      hasExpression: (column.hasDefault && !column.generatedIdentity) || column.generated !== undefined,
      keyAsName: column.keyAsName,
    })),
  ).toEqual(
    rows.map(({ name, type, notNull, identity, generated, expression }) => ({
      ...{ name, type, notNull, identity, generated, keyAsName: false },
      hasExpression: expression !== null,
    })),
  )
  // A table made from Drizzle's expressions reads back with the migration's.
  await sql.unsafe(`CREATE TEMP TABLE twin (LIKE outbox.${name})`)
  for (const column of columns) {
    const expression = rows.find((row) => row["name"] === column.name)?.["expression"]
    if (expression === null || expression === undefined) continue
    if (column.generated) {
      await sql.unsafe(`CREATE TEMP TABLE made (LIKE outbox.${name})`)
      await sql.unsafe(
        `ALTER TABLE made DROP COLUMN "${column.name}", ADD COLUMN "${column.name}" ${column.getSQLType()} GENERATED ALWAYS AS (${written(column.generated.as)}) STORED`,
      )
      expect(await readBack("made", column.name)).toBe(expression)
    } else {
      await sql.unsafe(`ALTER TABLE twin ALTER "${column.name}" SET DEFAULT ${written(column.default)}`)
      expect(await readBack("twin", column.name)).toBe(expression)
    }
  }
  await sql.unsafe(`DROP TABLE IF EXISTS twin, made`)
})

const readBack = async (table: string, column: string): Promise<unknown> => {
  const [row] = await sql`
    SELECT pg_get_expr(d.adbin, d.adrelid) AS expression FROM pg_attrdef d
    JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
    WHERE d.adrelid = ${`pg_temp.${table}`}::regclass AND a.attname = ${column}`
  return row?.["expression"]
}

it.each(Object.keys(tables))("%s: primary key, indexes and checks by name", async (name) => {
  const config = getTableConfig(tables[name]!)
  const indexes = await sql`
    SELECT c.relname AS name, i.indisprimary AS primary, pg_get_expr(i.indpred, i.indrelid) AS predicate,
      ARRAY(SELECT attname::text FROM pg_attribute WHERE attrelid = i.indexrelid ORDER BY attnum) AS columns
    FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE i.indrelid = ${`outbox.${name}`}::regclass`
  const primary = indexes.find((row) => row["primary"])
  const keyed = config.primaryKeys[0]?.columns ?? config.columns.filter((column) => column.primary)
  expect(keyed.map((column) => column.name)).toEqual(primary?.["columns"])
  const bare = (predicate: string) => predicate.replaceAll(/["() ]|::text/g, "")
  const byName = (a: { name: unknown }, b: { name: unknown }) => String(a.name).localeCompare(String(b.name))
  expect(
    config.indexes
      .map(({ config: { name, columns, where } }) => ({
        name,
        columns: columns.map((column) => (column as unknown as PgColumn).name),
        predicate: where === undefined ? "" : bare(written(where)),
      }))
      .sort(byName),
  ).toEqual(
    indexes
      .filter((row) => !row["primary"])
      .map((row) => ({ name: row["name"], columns: row["columns"], predicate: bare(row["predicate"] ?? "") }))
      .sort(byName),
  )
  const checks = await sql`
    SELECT conname FROM pg_constraint WHERE conrelid = ${`outbox.${name}`}::regclass AND contype = 'c' ORDER BY 1`
  expect(config.checks.map((check) => check.name).sort()).toEqual(checks.map((row) => row["conname"]))
})

it("reads rows under another schema's name", async () => {
  await sql.unsafe(`CREATE SCHEMA "out ""box"; CREATE TABLE "out ""box".lanes AS TABLE outbox.lanes`)
  const rows = await drizzle(database.sql).select().from(outboxSchema('out "box').lanes)
  expect(rows).toHaveLength(64)
  expect(rows[0]).toEqual({ lane: 0, relayId: null, token: 0n })
})
