/** The JSON form of each column type: as documented, the same in every mode, and byte for byte what SQL builds. */
import { readFileSync } from "node:fs"
import { getTableColumns, sql } from "drizzle-orm"
import * as pg from "drizzle-orm/pg-core"
import { drizzle } from "drizzle-orm/postgres-js"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { columnForms, columnSql, columnText } from "../../src/outbox/column.ts"
import { quoted, refuseSql } from "../../src/outbox/refusal.ts"
import { createDatabase, type TestDatabase } from "../support/postgres.ts"

const mood = pg.pgEnum("mood", ["sad", 'ha"ppy'])
const moodObject = pg.pgEnum("mood", { Sad: "sad" })
const bytea = pg.customType<{ data: Buffer }>({ dataType: () => "bytea" })

/** Column → PostgreSQL literals and the JSON text of each. */
const cases: Record<string, { column: pg.PgColumnBuilderBase; values: Record<string, string> }> = {
  smallint: { column: pg.smallint(), values: { "-32768": "-32768", "32767": "32767", "0": "0" } },
  smallserial: { column: pg.smallserial(), values: { "1": "1" } },
  integer: { column: pg.integer(), values: { "-2147483648": "-2147483648", "2147483647": "2147483647" } },
  serial: { column: pg.serial(), values: { "1": "1" } },
  bigint53: {
    column: pg.bigint({ mode: "number" }),
    values: { "9007199254740991": '"9007199254740991"', "-1": '"-1"' },
  },
  bigint64: {
    column: pg.bigint({ mode: "bigint" }),
    values: {
      "9223372036854775807": '"9223372036854775807"',
      "-9223372036854775808": '"-9223372036854775808"',
      "0": '"0"',
    },
  },
  bigserial53: { column: pg.bigserial({ mode: "number" }), values: { "1": '"1"' } },
  bigserial64: {
    column: pg.bigserial({ mode: "bigint" }),
    values: { "9223372036854775807": '"9223372036854775807"' },
  },
  numeric: {
    column: pg.numeric(),
    values: {
      "1.10": '"1.10"',
      "-0.000000001": '"-0.000000001"',
      "1e30": `"1${"0".repeat(30)}"`,
      NaN: '"NaN"',
      "100": '"100"',
    },
  },
  numericNumber: { column: pg.numeric({ mode: "number" }), values: { "1.5": '"1.5"', "1.10": '"1.1"' } },
  numericBigint: {
    column: pg.numeric({ mode: "bigint" }),
    values: { "12345678901234567890123": '"12345678901234567890123"' },
  },
  real: {
    column: pg.real(),
    values: { "1.5": "1.5", "-0.1": "-0.1", "1e20": "100000000000000000000", NaN: "refused" },
  },
  double: {
    column: pg.doublePrecision(),
    values: { "0.1": "0.1", "1e-7": "1e-7", "5e-324": "5e-324", Infinity: "refused", "-Infinity": "refused" },
  },
  boolean: { column: pg.boolean(), values: { t: "true", f: "false" } },
  text: {
    column: pg.text(),
    values: Object.fromEntries(
      ["", 'a"b\\c/', "\b\f\n\r\t\v\u0001\u001f\u007f", "é 😀 \u2028\u2029 \ufeff", "</script>", "null"].map(
        (t) => [t, JSON.stringify(t)],
      ),
    ),
  },
  varchar: { column: pg.varchar({ length: 9 }), values: { "ü ": '"ü "' } },
  char: { column: pg.char({ length: 4 }), values: { ab: '"ab  "' } },
  uuid: {
    column: pg.uuid(),
    values: { "018F3B3C-0000-7000-8000-ABCDEF012345": '"018f3b3c-0000-7000-8000-abcdef012345"' },
  },
  mood: { column: mood(), values: { sad: '"sad"', 'ha"ppy': '"ha\\"ppy"' } },
  moodObject: { column: moodObject(), values: { sad: '"sad"' } },
  timestamp: { column: pg.timestamp(), values: timestamps("") },
  timestampString: { column: pg.timestamp({ mode: "string" }), values: timestamps("") },
  timestampPrecision: {
    column: pg.timestamp({ precision: 0, mode: "string" }),
    values: { "2026-01-02 03:04:05": '"2026-01-02T03:04:05.000Z"' },
  },
  timestamptz: { column: pg.timestamp({ withTimezone: true }), values: timestamps("+00") },
  timestamptzString: {
    column: pg.timestamp({ withTimezone: true, mode: "string" }),
    values: { ...timestamps("+00"), "2026-01-02 00:30:00.5+05:30": '"2026-01-01T19:00:00.500Z"' },
  },
  date: {
    column: pg.date({ mode: "date" }),
    values: {
      "2026-02-28": '"2026-02-28"',
      "1000-01-01": '"1000-01-01"',
      "9999-12-30": '"9999-12-30"',
      infinity: "refused",
    },
  },
  dateString: { column: pg.date(), values: { "2026-02-28": '"2026-02-28"', "9999-12-31": '"9999-12-31"' } },
  time: { column: pg.time(), values: { "24:00": '"24:00:00"', "01:02:03.456789": '"01:02:03.456789"' } },
  timetz: { column: pg.time({ withTimezone: true }), values: { "01:02:03+02": '"01:02:03+02"' } },
  interval: {
    column: pg.interval(),
    values: { "1 year 2 mons 3 days 04:05:06.7": '"1 year 2 mons 3 days 04:05:06.7"', "-1 day": '"-1 days"' },
  },
  inet: {
    column: pg.inet(),
    values: { "10.0.0.1": '"10.0.0.1"', "10.0.0.1/8": '"10.0.0.1/8"', "::1": '"::1"' },
  },
  cidr: { column: pg.cidr(), values: { "10.0.0.0/8": '"10.0.0.0/8"' } },
  macaddr: { column: pg.macaddr(), values: { "08:00:2b:01:02:03": '"08:00:2b:01:02:03"' } },
  macaddr8: { column: pg.macaddr8(), values: { "08:00:2b:01:02:03:04:05": '"08:00:2b:01:02:03:04:05"' } },
  json: {
    column: pg.json(),
    values: {
      '{"b": 1, "a": [null, true, "x\\u0000"]}': '{"b":1,"a":[null,true,"x\\u0000"]}',
      '{"__proto__": {"x": 1}, "toJSON": 1}': '{"__proto__":{"x":1},"toJSON":1}',
      '"text"': '"text"',
    },
  },
  jsonb: { column: pg.jsonb(), values: { '{"b": 1.50, "a": {}}': '{"a":{},"b":1.5}' } },
  point: { column: pg.point(), values: { "(1.5,-2)": "[1.5,-2]" } },
  pointObject: { column: pg.point({ mode: "xy" }), values: { "(1.5,-2)": '{"x":1.5,"y":-2}' } },
  line: { column: pg.line(), values: { "{1,2,3}": "[1,2,3]" } },
  lineObject: { column: pg.line({ mode: "abc" }), values: { "{1,2,3}": '{"a":1,"b":2,"c":3}' } },
  bytea: {
    column: bytea(),
    values: { "\\x": '""', "\\x00ff10": '"AP8Q"', [`\\x${"00".repeat(100)}`]: `"${"A".repeat(134)}=="` },
  },
  textArray: {
    column: pg.text().array(),
    values: { '{a,NULL,"b\\"c","NULL"}': '["a","NULL","b\\"c","NULL"]', "{}": "[]" },
  },
  integerMatrix: { column: pg.integer().array().array(), values: { "{{1,2},{3,4}}": "[[1,2],[3,4]]" } },
  bigintArray: { column: pg.bigint({ mode: "number" }).array(), values: { "{1,NULL}": "refused" } },
  timestampArray: {
    column: pg.timestamp({ mode: "string" }).array(),
    values: { '{"2026-01-02 03:04:05"}': '["2026-01-02T03:04:05.000Z"]' },
  },
}

function timestamps(zone: string): Record<string, string> {
  return {
    [`2026-01-02 03:04:05.678999${zone}`]: '"2026-01-02T03:04:05.678Z"',
    [`2026-01-02 03:04:05.6${zone}`]: '"2026-01-02T03:04:05.600Z"',
    [`1969-12-31 23:59:59.999999${zone}`]: '"1969-12-31T23:59:59.999Z"',
    [`1000-01-01 00:00:00${zone}`]: '"1000-01-01T00:00:00.000Z"',
    [`9999-12-30 23:59:59.999999${zone}`]: '"9999-12-30T23:59:59.999Z"',
    [`0999-12-31 23:59:59.999${zone}`]: "refused",
    [`9999-12-31 00:00:00${zone}`]: "refused",
    infinity: "refused",
    "-infinity": "refused",
    [`10000-01-01 00:00:00${zone}`]: "refused",
    [`0044-03-15 00:00:00${zone} BC`]: "refused",
  }
}

let database: TestDatabase
beforeAll(async () => {
  database = await createDatabase()
  await database.sql.unsafe(`CREATE TYPE mood AS ENUM ('sad', 'ha"ppy')`)
})
afterAll(() => database.drop())

describe.each(["UTC", "Asia/Kolkata", "America/New_York"])("in the session time zone %s", (zone) => {
  it.each(Object.keys(cases))("%s", async (name) => {
    const { column: builder, values } = cases[name]!
    const table = pg.pgTable("t", { value: builder as never })
    const column = getTableColumns(table).value as pg.PgColumn
    const type = column
      .getSQLType()
      .replace("serial", "int")
      .replace("smallint", "int2")
      .replace("bigint", "int8")
    await drizzle(database.sql).transaction(async (tx) => {
      await tx.execute(sql.raw(`SET LOCAL TimeZone = '${zone}'`))
      await tx.execute(sql.raw(`CREATE TEMP TABLE t (value ${type}) ON COMMIT DROP`))
      for (const [literal, expected] of [...Object.entries(values), [undefined, "null"]] as const) {
        // Before standard time a zone's offset has seconds: Drizzle's Date is invalid then, and refused.
        if (
          zone !== "UTC" &&
          literal?.startsWith("1000-01-01") &&
          column.columnType === "PgTimestamp" &&
          name.endsWith("z")
        )
          continue
        // Drizzle reads the infinities of a timestamp without time zone as the year 2000.
        if (name === "timestamp" && literal?.endsWith("infinity")) continue
        await tx.execute(sql`TRUNCATE t`)
        await tx.execute(sql`INSERT INTO t VALUES (${literal ?? null}::text::${sql.raw(type)})`)
        const [row] = (await tx.select().from(table)) as { value: unknown }[]
        if (expected === "refused")
          expect(() => columnText(column, row?.value), literal).toThrow(/no JSON form/)
        else expect(columnText(column, row?.value), literal).toBe(expected)
        const expression = columnSql(column, sql`value`, (words) =>
          refuseSql("outbox", quoted("e"), "unencodable", words),
        )
        if (expression === undefined) continue
        const built = tx.transaction((inner) =>
          inner.execute(sql`SELECT coalesce((${expression})::text, 'null') AS json FROM t`),
        )
        if (expected === "refused")
          await expect(built, literal).rejects.toMatchObject({
            cause: { code: "OUTBX", message: expect.stringMatching(/^the timestamp .* has no JSON form$/) },
          })
        else expect((await built)[0], literal).toEqual({ json: expected })
      }
    })
  })
})

it("covers every column type that Drizzle has", () => {
  const types = Object.entries(pg)
    .filter(
      ([name, value]) =>
        /^Pg\w+$/.test(name) && typeof value === "function" && value.prototype instanceof pg.PgColumn,
    )
    .map(([name]) => name)
  const known = Object.keys(columnForms)
  expect(types.filter((type) => !known.includes(type) && type !== "PgLineTuple")).toEqual([])
  const tried = Object.values(cases).map(
    ({ column }) => (getTableColumns(pg.pgTable("t", { c: column as never })).c as pg.PgColumn).columnType,
  )
  const needExtension = [
    "PgGeometry",
    "PgGeometryObject",
    "PgBinaryVector",
    "PgVector",
    "PgHalfVector",
    "PgSparseVector",
  ]
  expect(known.filter((type) => !tried.includes(type) && !needExtension.includes(type))).toEqual([])
})

it("gives the types of extensions their form without their extension", () => {
  const table = pg.pgTable("t", {
    geometry: pg.geometry(),
    xy: pg.geometry({ mode: "xy" }),
    bits: pg.bit({ dimensions: 3 }),
    vector: pg.vector({ dimensions: 2 }),
    half: pg.halfvec({ dimensions: 2 }),
    sparse: pg.sparsevec({ dimensions: 5 }),
  })
  expect(columnText(table.geometry, [1, 2])).toBe("[1,2]")
  expect(columnText(table.xy, { x: 1, y: 2 })).toBe('{"x":1,"y":2}')
  expect(columnText(table.bits, "101")).toBe('"101"')
  expect(columnText(table.vector, [1, 2.5])).toBe("[1,2.5]")
  expect(columnText(table.half, [1, 2.5])).toBe("[1,2.5]")
  expect(columnText(table.sparse, "{1:1}/5")).toBe('"{1:1}/5"')
})

it("is documented type by type", () => {
  const page = readFileSync(new URL("../../docs/columns.md", import.meta.url), "utf8")
  for (const [type, { form, sql }] of Object.entries(columnForms)) {
    const line = page.split("\n").find((line) => line.includes(`\`${type}\``))
    expect(line, type).toContain(form)
    expect(line?.endsWith(sql !== undefined ? "| yes |" : "| no |"), type).toBe(true)
  }
})
