/** Statements of ours through Drizzle, prepared where that saves a round trip. */
import type { Query } from "drizzle-orm"
import type { PgDialect } from "drizzle-orm/pg-core"
import type { AnyTransaction } from "./append.ts"

/** What of Drizzle's transactions is alike in all drivers, though not in its types. */
interface Inner {
  readonly dialect: PgDialect
  readonly session: { readonly client?: unknown }
}

/** The dialect that a transaction's texts are written in: one for each `drizzle(…)`. */
export const dialectOf = (tx: AnyTransaction): PgDialect => (tx as unknown as Inner).dialect

/**
 * The name with which Drizzle is to prepare a statement, or undefined. postgres.js asks for the types of an unprepared
 * statement's parameters before it sends them, a round trip more each time. Behind a transaction pooler its own COMMIT
 * needs `prepare: false`, and with that it takes no name from us either; the other drivers have no such option, and need one
 * round trip anyway.
 */
export const preparedName = (tx: AnyTransaction): string | undefined => {
  const { client } = (tx as unknown as Inner).session
  return typeof client === "function" && "unsafe" in client ? "drizzle-outbox" : undefined
}

/** Runs one of a few fixed texts. */
export const run = async (tx: AnyTransaction, text: string, params: unknown[]): Promise<void> => {
  const query: Query = { sql: text, params }
  await tx._.session.prepareQuery(query, undefined, preparedName(tx), false).execute()
}
