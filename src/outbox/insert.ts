/** Drizzle's own insert, its text remembered for rows alike: making it costs Drizzle more than the server's work. */
import { is, type Query, type QueryWithTypings, SQL } from "drizzle-orm"
import type { PgColumn, PgDialect, PgInsertValue, PgTable } from "drizzle-orm/pg-core"
import type { AnyTransaction } from "./append.ts"
import { type NamedColumn, namedColumns } from "./key.ts"
import { dialectOf, preparedName } from "./prepared.ts"

/** An insert's text; `kept` when it is one of those that come again and again. */
export interface InsertQuery extends QueryWithTypings {
  readonly kept: boolean
}

type Row = Readonly<Record<string, unknown>>

/** Inserts `rows` and gives them back as `returning()` does. `along` may write the statement anew around Drizzle's text. */
export const insertReturning = async (
  tx: AnyTransaction,
  table: PgTable,
  rows: readonly PgInsertValue<PgTable>[],
  along: (insert: InsertQuery) => Query,
): Promise<Row[]> => {
  const filled = withDefaults(table, rows as readonly Row[])
  const insert = insertQuery(tx, table, filled)
  const query = along(insert)
  // Its result is mapped by Drizzle; only its text is ours.
  const statement = tx.insert(table).values([{}]).returning()
  Object.assign(statement, { getSQL: () => ({ toQuery: () => query }) })
  const name = insert.kept ? preparedName(tx) : undefined
  return (await statement.prepare(name as string).execute()) as Row[]
}

const insertQuery = (tx: AnyTransaction, table: PgTable, rows: readonly Row[]): InsertQuery => {
  const dialect = dialectOf(tx)
  const written = (): QueryWithTypings =>
    dialect.sqlToQuery(
      tx
        .insert(table)
        .values(rows as never)
        .returning()
        .getSQL(),
    )
  const columns = insertable(table)
  const plain = plainValues(columns, rows)
  if (plain === undefined) return { ...written(), kept: false }
  const texts = textsOf(table)
  const shape = `${columnNames(dialect, columns)}${plain.shape}`
  const known = texts.get(shape)
  if (known !== undefined) return { ...known, params: plain.params, kept: true }
  const query = written()
  if (comesAgain(shape, query.sql)) texts.set(shape, query)
  return { ...query, kept: false }
}

/** The columns of an insert, in its order. */
const insertable = (table: PgTable): readonly NamedColumn[] => {
  let columns = insertables.get(table)
  if (columns === undefined) {
    columns = namedColumns(table).filter(
      ({ column }) => !(column as PgColumn & { shouldDisableInsert(): boolean }).shouldDisableInsert(),
    )
    insertables.set(table, columns)
  }
  return columns
}

const insertables = new WeakMap<PgTable, readonly NamedColumn[]>()

/** The rows with what the table's `$default` and `$onUpdate` functions give, each called once as Drizzle would. */
const withDefaults = (table: PgTable, rows: readonly Row[]): readonly Row[] => {
  const computed = insertable(table).filter(
    ({ column }) => column.defaultFn !== undefined || column.onUpdateFn !== undefined,
  )
  if (computed.length === 0) return rows
  return rows.map((row) => {
    const filled: Record<string, unknown> = { ...row }
    for (const { property, column } of computed) {
      if (filled[property] !== undefined) continue
      if (column.defaultFn !== undefined) filled[property] = column.defaultFn()
      else if (!column.default) filled[property] = column.onUpdateFn?.()
    }
    return filled
  })
}

/**
 * The parameters of rows of plain values, and what their text and its parameters' types follow from; undefined for rows
 * with a piece of SQL or another value whose type the driver would have to look into.
 */
const plainValues = (
  columns: readonly NamedColumn[],
  rows: readonly Row[],
): { readonly shape: string; readonly params: unknown[] } | undefined => {
  const params: unknown[] = []
  let common: string | undefined
  // Of the rows after those that are like the first.
  let others = ""
  for (const row of rows) {
    let kinds = ""
    for (const { property, column } of columns) {
      const given = Object.hasOwn(row, property) ? row[property] : undefined
      if (given === undefined) {
        kinds += "-"
        continue
      }
      if (is(given, SQL)) return undefined
      const value: unknown = given === null ? null : column.mapToDriverValue(given)
      const kind = kindOf(value)
      if (kind === undefined) return undefined
      kinds += kind
      params.push(value)
    }
    common ??= kinds
    if (others !== "" || kinds !== common) others += `,${kinds}`
  }
  return { shape: `${rows.length} ${common}${others}`, params }
}

/** The letter of a parameter's type as drivers see it. */
const kindOf = (value: unknown): string | undefined => {
  switch (typeof value) {
    case "string":
    case "number":
      return "s"
    case "boolean":
      return "b"
    case "bigint":
      return "i"
    default:
      return value === null
        ? "s"
        : value instanceof Date
          ? "d"
          : value instanceof Uint8Array
            ? "u"
            : undefined
  }
}

/** The names that follow from the `casing` of `drizzle(…)`; the others are the table's own. */
const columnNames = (dialect: PgDialect, columns: readonly NamedColumn[]): string => {
  let names = ""
  for (const { column } of columns)
    if (column.keyAsName)
      names += `${(dialect as unknown as { readonly casing: Casing }).casing.getColumnCasing(column)} `
  return names
}

interface Casing {
  readonly getColumnCasing: (column: PgColumn) => string
}

const textsOf = (table: PgTable): Map<string, QueryWithTypings> => {
  let texts = tables.get(table)
  if (texts === undefined) {
    texts = new Map()
    tables.set(table, texts)
  }
  return texts
}

const tables = new WeakMap<PgTable, Map<string, QueryWithTypings>>()

/**
 * Whether a text is worth keeping: it has come before, and there is room. What is kept is prepared on every connection,
 * where it takes the server some 80 KB and as much again for each 6 KB of text: never more than 8 MB for all of them.
 */
const comesAgain = (shape: string, text: string): boolean => {
  if (!seen.has(shape)) {
    if (seen.size >= 1000) seen.clear()
    seen.add(shape)
    return false
  }
  const size = text.length + 1000
  if (size > LARGEST || size > room) return false
  room -= size
  return true
}

const LARGEST = 16_000
let room = 100_000
const seen = new Set<string>()
