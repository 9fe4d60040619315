/**
 * The operations of the write path, in their Promise form: a statement on the user's table and one for its messages, or
 * one for both.
 */
import { is, type SQL } from "drizzle-orm"
import { type PgInsertValue, type PgTable, PgTransaction, type PgUpdateSetSource } from "drizzle-orm/pg-core"
import { type AnyTransaction, append, poison } from "./append.ts"
import { carriedOn } from "./carry.ts"
import { makeDrafts, type Written } from "./drafts.ts"
import { OutboxError } from "./error.ts"
import type { CompiledEvent } from "./event.ts"
import type { WriteOptions } from "./headers.ts"
import { makeListening } from "./listening.ts"
import { announce, type Nudge } from "./nudge.ts"
import type { Operation } from "./publication.ts"
import { asRefusal } from "./refusal.ts"
import { deleteRows, insertRows, tooMany, type UpsertConfig, updateRows, upsertRows } from "./rows.ts"

/** What the operations of one `defineOutbox` share. */
export interface Outbox {
  readonly events: readonly CompiledEvent[]
  readonly schema: string
  readonly maxBodyBytes: number
  readonly maxRows: number
  readonly nudge: Nudge | undefined
}

type Insertable = PgInsertValue<PgTable>

/** The operations of an outbox; their public types are `WithOutbox` and `Emit`. */
export const operations = (outbox: Outbox) => {
  const listeningTo = makeListening(outbox)

  /** Writes the rows, then their messages. Whatever fails, the transaction can only roll back. */
  const write = async (
    tx: AnyTransaction,
    table: PgTable,
    operation: Operation,
    options: WriteOptions,
    run: (old: boolean) => Promise<readonly Written[]>,
  ): Promise<unknown[]> =>
    settled(tx, async () => {
      const { events } = listeningTo(table, operation)
      const rows = await run(events.some((event) => event.options.old))
      await record(tx, { events, operation, table, rows, options })
      return rows.map(({ row }) => row)
    })

  const record = async (
    tx: AnyTransaction,
    writing: Omit<Parameters<typeof makeDrafts>[0], "maxBodyBytes">,
  ): Promise<void> => {
    if (writing.rows.length > outbox.maxRows) throw tooMany(writing.rows.length, outbox.maxRows)
    const options = carriedOn(tx, writing.options)
    const drafts = await makeDrafts({ ...writing, options, maxBodyBytes: outbox.maxBodyBytes })
    if (drafts.length === 0) return
    await append(tx, outbox.schema, drafts)
    announce(tx, outbox.nudge)
  }

  const withOutbox = async (
    tx: AnyTransaction,
    table: PgTable,
    rows: Insertable | readonly Insertable[],
    options: WriteOptions = {},
  ): Promise<unknown> => {
    const list = listed(rows)
    if (list.length === 0) return []
    return settled(tx, async () => {
      if (list.length > outbox.maxRows) throw tooMany(list.length, outbox.maxRows)
      const { events, inline } = listeningTo(table, "insert")
      const carried = carriedOn(tx, options)
      const inserted = await insertRows(tx, table, list, inline && ((insert) => inline(insert, carried)))
      if (inserted.length === 0 && !Array.isArray(rows))
        throw new OutboxError({
          reason: "not-written",
          message: "the insert kept no row: a trigger or rule of the table swallowed it",
        })
      if (inline === undefined)
        await record(tx, {
          events,
          operation: "insert",
          table,
          rows: inserted.map((row) => ({ row })),
          options,
        })
      else if (inserted.length > 0) announce(tx, outbox.nudge)
      return Array.isArray(rows) ? inserted : inserted[0]
    })
  }

  const update = (
    tx: AnyTransaction,
    table: PgTable,
    set: PgUpdateSetSource<PgTable>,
    where: SQL | undefined,
    options: WriteOptions = {},
  ): Promise<unknown[]> =>
    write(tx, table, "update", options, (old) => updateRows(tx, table, set, where, old, outbox.maxRows))

  const remove = (
    tx: AnyTransaction,
    table: PgTable,
    where: SQL | undefined,
    options: WriteOptions = {},
  ): Promise<unknown[]> => write(tx, table, "delete", options, () => deleteRows(tx, table, where))

  const upsert = async (
    tx: AnyTransaction,
    table: PgTable,
    rows: Insertable | readonly Insertable[],
    config: UpsertConfig<PgTable>,
    options: WriteOptions = {},
  ): Promise<unknown> => {
    const list = listed(rows)
    if (list.length === 0) return []
    const written = await write(tx, table, "upsert", options, async (old) => {
      if (list.length > outbox.maxRows) throw tooMany(list.length, outbox.maxRows)
      return upsertRows(tx, table, list, config, old)
    })
    return Array.isArray(rows) ? written : written[0]
  }

  const emit = (
    tx: AnyTransaction,
    name: string,
    value: unknown,
    options: WriteOptions = {},
  ): Promise<void> =>
    settled(tx, async () => {
      const event = outbox.events.find((event) => event.name === name)
      if (event === undefined)
        throw new OutboxError({ reason: "unbound", message: `there is no event ${JSON.stringify(name)}` })
      if (!event.operations.has("emit"))
        throw new OutboxError({
          reason: "operation",
          message: `event ${JSON.stringify(name)} does not list the operation "emit"`,
          event: name,
        })
      await record(tx, {
        events: [event],
        operation: "emit",
        table: event.table,
        rows: [{ row: value }],
        options,
      })
    })

  return { withOutbox: Object.assign(withOutbox, { update, delete: remove, upsert }), emit }
}

/**
 * Runs a call's work. A failure first makes the transaction uncommittable: a JavaScript error alone does not, and a
 * caller who catches it could commit the row without its message.
 */
const settled = async <A>(tx: AnyTransaction, work: () => Promise<A>): Promise<A> => {
  if (!is(tx, PgTransaction))
    throw new OutboxError({
      reason: "not-a-transaction",
      message: "the first argument is no Drizzle transaction: call this inside db.transaction, with its tx",
    })
  try {
    return await work()
  } catch (error) {
    await poison(tx)
    throw asRefusal(error)
  }
}

const listed = (rows: Insertable | readonly Insertable[]): readonly Insertable[] =>
  Array.isArray(rows) ? (rows as readonly Insertable[]) : [rows as Insertable]
