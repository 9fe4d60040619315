/**
 * A transaction's first statement in the same write as its BEGIN, and both in the same write as the COMMIT of the one
 * before: postgres.js' own `begin` waits a round trip for each.
 */
import type { Sql } from "postgres"
import type { AnyDatabase } from "../outbox/transaction.ts"
import { isDisconnection } from "../store/error.ts"

export interface Opening {
  /** The statement without parameters, made where it is not prepared. */
  readonly text: () => string
  /**
   * The same as the server parses it once a connection. Unless `BEGUN` it must do nothing, and give no row: a BEGIN
   * that was cancelled does not keep it back.
   */
  readonly prepared?: { readonly text: string; readonly parameters: ReadonlyArray<string | null> }
  /** Its rows, once the transaction runs; undefined where it is still to be sent. */
  rows: ReadonlyArray<unknown> | undefined
  /** Ends the transaction, once it runs, and opens another on its connection; undefined where that would cost as much as a new one. */
  follow: ((next: Opening) => Following) | undefined
}

/** Neither is left unhandled. */
export interface Following {
  readonly committed: Promise<unknown>
  readonly opened: Promise<void>
}

/**
 * Whether it runs in the transaction that it opens. DEFERRABLE means something to read-only serializable transactions
 * alone; to the others it is a mark that costs nothing.
 */
export const BEGUN = "current_setting('transaction_deferrable') = 'on'"
const MARK = "DEFERRABLE"

/** What of postgres.js 3.4 its own `begin` uses, too. */
interface Connection {
  readonly execute: (query: unknown) => unknown
}
interface Options {
  readonly onexecute?: (connection: Connection) => unknown
  readonly prepare?: boolean
}
type Unsafe = (text: string, parameters: ReadonlyArray<string | null>, options?: Options) => Query
interface Query extends PromiseLike<ReadonlyArray<unknown>> {
  handler: (query: unknown) => unknown
}
interface Client {
  unsafe: Unsafe
  readonly options: { readonly prepare: boolean }
}

/** Drizzle's client, if it is one of postgres.js. */
const postgresJsOf = (db: AnyDatabase): Client | undefined => {
  const client = (db as unknown as { readonly session?: { readonly client?: unknown } }).session?.client
  return typeof client === "function" && "begin" in client && "unsafe" in client
    ? (client as unknown as Client & Sql)
    : undefined
}

/**
 * Calls `begin`, which begins a transaction of `db`, so that the opening goes along. On other drivers, or should
 * postgres.js begin in another way some day, it is left to whoever has the transaction.
 */
export const beginWith = <A>(db: AnyDatabase, opening: Opening, begin: () => Promise<A>): Promise<A> => {
  const client = postgresJsOf(db)
  if (client === undefined) return begin()
  const { unsafe } = client
  const prepared = client.options.prepare ? opening.prepared : undefined
  client.unsafe = (text, parameters, options) => {
    client.unsafe = unsafe
    if (!/^begin/.test(text) || options?.onexecute === undefined) return unsafe(text, parameters, options)
    const { onexecute } = options
    let connection: Connection | undefined
    let first: Promise<ReadonlyArray<unknown>> | undefined
    const query = unsafe(
      prepared === undefined ? `${text}; ${opening.text()}` : `${text} ${MARK}`,
      parameters,
      {
        ...options,
        onexecute: (of) => {
          connection = of
          if (prepared !== undefined) {
            first = on(of, unsafe(prepared.text, prepared.parameters, { prepare: true }))
            // Should BEGIN itself fail, nobody waits for it.
            first.catch(() => {})
          }
          return onexecute(of)
        },
      },
    )
    const execute = async () => {
      let begun = false
      try {
        const answer = await query
        begun = true
        opening.rows = begunRows(first === undefined ? (answer[1] as ReadonlyArray<unknown>) : await first)
        if (first !== undefined && connection !== undefined) opening.follow = follow(unsafe, connection)
      } catch (error) {
        // postgres.js takes the connection back when it is idle, which a failed transaction is not; one that has gone
        // must not be written to, nor one that never was in a transaction.
        const failed = begun || first === undefined
        if (connection !== undefined && failed && !isDisconnection(error)) await leave(unsafe, connection)
        throw error
      }
    }
    return { execute } as unknown as Query
  }
  try {
    return begin()
  } finally {
    client.unsafe = unsafe
  }
}

/** What its transaction's end was asked for is known on its own, whatever becomes of the next. */
const follow = (unsafe: Unsafe, connection: Connection) => {
  const next = (opening: Opening): Following => {
    const { prepared } = opening
    if (prepared === undefined) throw new Error("only a prepared opening can follow")
    const committed = on(connection, unsafe("commit", []))
    const begun = on(connection, unsafe(`begin ${MARK}`, []))
    const first = on(connection, unsafe(prepared.text, prepared.parameters, { prepare: true }))
    const opened = first.then(async (rows) => {
      // Its own words, where it has failed.
      if (rows.length === 0) await begun
      opening.rows = begunRows(rows)
      opening.follow = next
    })
    for (const answer of [committed, begun, opened]) answer.catch(() => {})
    return { committed, opened }
  }
  return next
}

const begunRows = (rows: ReadonlyArray<unknown>): ReadonlyArray<unknown> => {
  if (rows.length === 0) throw new Error("its first statement found no transaction")
  return rows
}

/** Runs a query on this connection, behind what it is at. */
const on = async (connection: Connection, query: Query): Promise<ReadonlyArray<unknown>> => {
  query.handler = (sent) => connection.execute(sent)
  return await query
}

const leave = async (unsafe: Unsafe, connection: Connection): Promise<void> => {
  try {
    await on(connection, unsafe("rollback", []))
  } catch {
    // It has gone, and the transaction with it.
  }
}
