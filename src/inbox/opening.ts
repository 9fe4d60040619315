/** A transaction's first statement in the same message as its BEGIN, for which postgres.js' own `begin` waits a round trip. */
import type { Sql } from "postgres"
import type { AnyDatabase } from "../outbox/transaction.ts"
import { isDisconnection } from "../store/error.ts"

export interface Opening {
  /** A statement without parameters. */
  readonly text: string
  /** Its rows, once the transaction runs; undefined where it is still to be sent. */
  rows: ReadonlyArray<unknown> | undefined
}

/** What of postgres.js 3.4 its own `begin` uses, too. */
interface Connection {
  readonly execute: (query: unknown) => unknown
}
interface Options {
  readonly onexecute: (connection: Connection) => unknown
}
type Unsafe = (text: string, parameters: ReadonlyArray<never>, options?: Options) => Query
interface Query extends PromiseLike<ReadonlyArray<ReadonlyArray<unknown>>> {
  handler: (query: unknown) => unknown
}

/** Drizzle's client, if it is one of postgres.js. */
const postgresJsOf = (db: AnyDatabase): { unsafe: Unsafe } | undefined => {
  const client = (db as unknown as { readonly session?: { readonly client?: unknown } }).session?.client
  return typeof client === "function" && "begin" in client && "unsafe" in client
    ? (client as unknown as { unsafe: Unsafe } & Sql)
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
  client.unsafe = (text, parameters, options) => {
    client.unsafe = unsafe
    if (!/^begin/.test(text) || options === undefined) return unsafe(text, parameters, options)
    let connection: Connection | undefined
    const onexecute = (of: Connection) => {
      connection = of
      return options.onexecute(of)
    }
    const query = unsafe(`${text}; ${opening.text}`, parameters, { ...options, onexecute })
    const execute = async () => {
      try {
        opening.rows = (await query)[1]
      } catch (error) {
        // postgres.js takes the connection back when it is idle, which a failed transaction is not; one that has gone
        // must not be written to.
        if (connection !== undefined && !isDisconnection(error)) await leave(unsafe, connection)
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

const leave = async (unsafe: Unsafe, connection: Connection): Promise<void> => {
  const rollback = unsafe("rollback", [])
  rollback.handler = (query) => connection.execute(query)
  try {
    await rollback
  } catch {
    // It has gone, and the transaction with it.
  }
}
