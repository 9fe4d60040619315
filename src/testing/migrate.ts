/** The outbox's tables through any Drizzle driver, where the command line does not reach: PGlite lives in the test's process. */
import { sql } from "drizzle-orm"
import { rowsOf } from "../inbox/revocable.ts"
import type { AnyTransaction } from "../outbox/append.ts"
import type { AnyDatabase } from "../outbox/transaction.ts"
import { migrations } from "../store/migrate.ts"
import { quoteSchema } from "../store/schema-name.ts"

/** Applies the migrations that are missing, in one transaction. */
export const migrateOn = (db: AnyDatabase, schema: string): Promise<void> =>
  db.transaction(async (tx: AnyTransaction) => {
    const name = `drizzle-outbox migrate ${schema}`
    await tx.execute(sql`SELECT pg_advisory_xact_lock(hashtextextended(${name}::text, 0))`)
    const current = await versionOf(tx, schema)
    for (const migration of migrations(schema)) {
      if (migration.version > current) await script(tx, migration.sql)
    }
  })

const versionOf = async (tx: AnyTransaction, schema: string): Promise<number> => {
  const table = `${quoteSchema(schema)}."migrations"`
  const [found] = await rowsOf<{ there: boolean }>(
    tx,
    sql`SELECT to_regclass(${table}::text) IS NOT NULL AS there`,
  )
  if (found?.there !== true) return 0
  const [row] = await rowsOf<{ version: number }>(
    tx,
    sql.raw(`SELECT coalesce(max("version"), 0)::int AS version FROM ${table}`),
  )
  return Number(row?.version)
}

/** Runs several statements at once, which Drizzle has no way to say. */
const script = async (tx: AnyTransaction, text: string): Promise<void> => {
  const { client } = (tx as unknown as { readonly session: { readonly client: Client } }).session
  await (client.unsafe ?? client.exec ?? client.query)?.call(client, text)
}

/** postgres.js has `unsafe`, PGlite `exec`, the others `query`. */
interface Client {
  readonly unsafe?: (text: string) => Promise<unknown>
  readonly exec?: (text: string) => Promise<unknown>
  readonly query?: (text: string) => Promise<unknown>
}
