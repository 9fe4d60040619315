/** The statements on the user's own table, and the rows before them where an event asks for those. */
import { inArray, type Query, type SQL, sql } from "drizzle-orm"
import type { IndexColumn, PgInsertValue, PgTable, PgUpdateSetSource } from "drizzle-orm/pg-core"
import type { AnyTransaction } from "./append.ts"
import type { Written } from "./drafts.ts"
import { OutboxError } from "./error.ts"
import { type InsertQuery, insertReturning } from "./insert.ts"
import { byKey, keyOfColumns, type NamedColumn, namedColumns, primaryKey } from "./key.ts"

/** What happens where an upsert meets a row, as in Drizzle's `onConflictDoUpdate`. */
export interface UpsertConfig<T extends PgTable> {
  /** The columns of the unique index that decides. */
  readonly target: IndexColumn | IndexColumn[]
  /** The predicate of a partial index. */
  readonly targetWhere?: SQL
  readonly set: PgUpdateSetSource<T>
  /** Where it is false nothing is written, and no message either. */
  readonly setWhere?: SQL
}

type Row = Readonly<Record<string, unknown>>

/** Inserts in input order. `along` may write the statement anew around Drizzle's text. */
export const insertRows = (
  tx: AnyTransaction,
  table: PgTable,
  rows: readonly PgInsertValue<PgTable>[],
  along: (insert: InsertQuery) => Query = (insert) => insert,
): Promise<Row[]> => inChunks(table, rows, (chunk) => insertReturning(tx, table, chunk, along))

/** In as few statements as PostgreSQL's 65,535 parameters allow, with room for a few more. */
const inChunks = async (
  table: PgTable,
  rows: readonly PgInsertValue<PgTable>[],
  write: (chunk: readonly PgInsertValue<PgTable>[]) => Promise<Row[]>,
): Promise<Row[]> => {
  const most = Math.max(1, Math.floor(60_000 / Math.max(1, namedColumns(table).length)))
  if (rows.length <= most) return write(rows)
  const written: Row[] = []
  for (let start = 0; start < rows.length; start += most)
    for (const row of await write(rows.slice(start, start + most))) written.push(row)
  return written
}

/** Updates in primary-key order; with `old` the rows are locked and read first, and only those are updated. */
export const updateRows = async (
  tx: AnyTransaction,
  table: PgTable,
  set: PgUpdateSetSource<PgTable>,
  where: SQL | undefined,
  old: boolean,
  maxRows: number,
): Promise<Written[]> => {
  const key = primaryKey(table)
  const run = async (condition: SQL | undefined) =>
    ((await tx.update(table).set(set).where(condition).returning()) as Row[]).sort(byKey(key))
  if (!old) return (await run(where)).map((row) => ({ row }))
  if (key.length === 0)
    throw new OutboxError({
      reason: "old",
      message: "the table has no primary key, by which `old` pairs the rows",
    })
  const before = await lockRows(tx, table, where, key)
  if (before.length > maxRows) throw tooMany(before.length, maxRows)
  if (before.length === 0) return []
  if (before.length > 1 && key.some(({ property }) => set[property as never] !== undefined))
    throw new OutboxError({
      reason: "old",
      message:
        "an update with `old` that changes the primary key of several rows cannot tell which row became which",
    })
  const after = await run(within(key, before))
  const [only] = before
  if (before.length === 1) return after.map((row) => ({ row, old: only }))
  return paired(after, before, key)
}

/** Deletes in primary-key order. The row deleted is its own `old`. */
export const deleteRows = async (
  tx: AnyTransaction,
  table: PgTable,
  where: SQL | undefined,
): Promise<Written[]> => {
  const rows = (await tx.delete(table).where(where).returning()) as Row[]
  return rows.sort(byKey(primaryKey(table))).map((row) => ({ row, old: row }))
}

/**
 * Upserts; what was written comes in primary-key order. With `old` the rows that exist are locked and read first; a row
 * that another transaction commits between that look and the write has no `old`.
 */
export const upsertRows = async (
  tx: AnyTransaction,
  table: PgTable,
  rows: readonly PgInsertValue<PgTable>[],
  config: UpsertConfig<PgTable>,
  old: boolean,
): Promise<Written[]> => {
  const key = primaryKey(table)
  const target = [config.target].flat().map(({ name }) => name)
  const columns = namedColumns(table).filter(({ column }) => target.includes(column.name))
  const known = rows.filter((row) =>
    columns.every(({ property }) => row[property as never] !== undefined),
  ) as Row[]
  const before = old && known.length > 0 ? await lockRows(tx, table, within(columns, known), key) : []
  const written = await inChunks(
    table,
    rows,
    async (chunk) =>
      (await tx
        .insert(table)
        .values(chunk as PgInsertValue<PgTable>[])
        .onConflictDoUpdate(config)
        .returning()) as Row[],
  )
  const after = written.sort(byKey(key))
  return paired(after, before, columns)
}

const lockRows = async (
  tx: AnyTransaction,
  table: PgTable,
  where: SQL | undefined,
  key: readonly NamedColumn[],
): Promise<Row[]> =>
  (await tx
    .select()
    .from(table)
    .where(where)
    .orderBy(...key.map(({ column }) => column))
    .for("update")) as Row[]

const paired = (
  after: readonly Row[],
  before: readonly Row[],
  columns: readonly NamedColumn[],
): Written[] => {
  const olds = new Map(before.map((row) => [keyOfColumns(columns, row), row]))
  return after.map((row) => ({
    row,
    old: olds.size === 0 ? undefined : olds.get(keyOfColumns(columns, row)),
  }))
}

/** The condition that a row has the same values in `columns` as one of `rows`. */
const within = (columns: readonly NamedColumn[], rows: readonly Row[]): SQL => {
  const [first] = columns
  if (columns.length === 1 && first !== undefined)
    return inArray(
      first.column,
      rows.map((row) => row[first.property]),
    )
  const names = sql.join(
    columns.map(({ column }) => sql`${column}`),
    sql`, `,
  )
  const tuples = rows.map(
    (row) =>
      sql`(${sql.join(
        columns.map(({ property, column }) => sql`${sql.param(row[property], column)}`),
        sql`, `,
      )})`,
  )
  return sql`(${names}) IN (${sql.join(tuples, sql`, `)})`
}

/** Over the limit of one call. */
export const tooMany = (rows: number, maxRows: number): OutboxError =>
  new OutboxError({
    reason: "too-many-rows",
    message: `the call covers ${rows} rows, over the limit of ${maxRows}: split it, or raise \`maxRows\``,
  })
