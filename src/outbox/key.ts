/** The ordering key of a message, and the primary key it comes from by default. */
import { getTableColumns } from "drizzle-orm"
import { getTableConfig, type PgColumn, type PgTable } from "drizzle-orm/pg-core"
import { columnText } from "./column.ts"

/** A column under the name that rows have for it. */
export interface NamedColumn {
  readonly property: string
  readonly column: PgColumn
}

/** A table's columns with their properties. */
export const namedColumns = (table: PgTable): readonly NamedColumn[] =>
  Object.entries(getTableColumns(table)).map(([property, column]) => ({ property, column }))

/** The primary key's columns in declaration order; empty without one. */
export const primaryKey = (table: PgTable): readonly NamedColumn[] => {
  const known = keys.get(table)
  if (known !== undefined) return known
  const columns = namedColumns(table)
  const [declared] = getTableConfig(table).primaryKeys
  const key =
    declared === undefined
      ? columns.filter(({ column }) => column.primary)
      : declared.columns.flatMap(({ name }) => columns.filter(({ column }) => column.name === name))
  keys.set(table, key)
  return key
}

const keys = new WeakMap<PgTable, readonly NamedColumn[]>()

/**
 * The key that columns make of a row, its primary key by default: their JSON form (a string as it is, other values as JSON
 * text); several columns as a JSON array. Throws `NoJsonForm`.
 */
export const keyOfColumns = (
  columns: readonly NamedColumn[],
  row: Readonly<Record<string, unknown>>,
): string => {
  const texts = columns.map(({ property, column }) => columnText(column, row[property]))
  const [only] = texts
  if (texts.length !== 1 || only === undefined) return `[${texts.join(",")}]`
  return only.startsWith('"') ? (JSON.parse(only) as string) : only
}

/** Orders rows by their primary key: numbers and dates by size, texts by code unit. */
export const byKey =
  (columns: readonly NamedColumn[]) =>
  (a: Readonly<Record<string, unknown>>, b: Readonly<Record<string, unknown>>): number => {
    for (const { property } of columns) {
      const order = compare(a[property], b[property])
      if (order !== 0) return order
    }
    return 0
  }

const compare = (a: unknown, b: unknown): number => {
  const [x, y] = [comparable(a), comparable(b)]
  return x < y ? -1 : x > y ? 1 : 0
}

const comparable = (value: unknown): number | bigint | string =>
  typeof value === "number" || typeof value === "bigint"
    ? value
    : value instanceof Date
      ? value.getTime()
      : typeof value === "string"
        ? value
        : JSON.stringify(value)
