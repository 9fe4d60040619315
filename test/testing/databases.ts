/** The databases that the testing kit runs on: three drivers, two of them on a server. */
import { PGlite } from "@electric-sql/pglite"
import { drizzle as nodePostgres } from "drizzle-orm/node-postgres"
import { drizzle as pglite } from "drizzle-orm/pglite"
import { drizzle as postgresJs } from "drizzle-orm/postgres-js"
import postgres from "postgres"
import type { AnyDatabase } from "../../src/outbox/transaction.ts"
import { nodePostgresPool } from "../support/node-postgres.ts"
import { createDatabase } from "../support/postgres.ts"

export interface OpenDatabase {
  readonly db: AnyDatabase
  readonly close: () => Promise<void>
}

export const databases: Readonly<Record<string, () => Promise<OpenDatabase>>> = {
  "postgres.js": async () => {
    const database = await createDatabase({ template: "none" })
    const sql = postgres(database.url, { onnotice: () => {} })
    return {
      db: postgresJs(sql),
      close: async () => {
        // postgres.js waits for ever for a connection that was lost in a transaction.
        await sql.end({ timeout: 1 })
        await database.drop()
      },
    }
  },
  "node-postgres": async () => {
    const database = await createDatabase({ template: "none" })
    const pool = nodePostgresPool(database.url)
    return {
      db: nodePostgres({ client: pool }),
      close: async () => {
        await pool.end()
        await database.drop()
      },
    }
  },
  PGlite: async () => {
    const client = new PGlite()
    return { db: pglite({ client }), close: () => client.close() }
  },
}
