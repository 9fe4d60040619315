/** Fresh databases for tests, cloned from a migrated template on the run's shared server. */
import { randomBytes } from "node:crypto"
import postgres from "postgres"
import { inject } from "vitest"

export interface TestDatabase {
  readonly url: string
  readonly sql: postgres.Sql
  readonly drop: () => Promise<void>
}

/** A new, migrated database (`template: "none"` for an empty one). Drop it when done. */
export const createDatabase = async (options: { readonly template?: "none" } = {}): Promise<TestDatabase> => {
  const admin = inject("postgres")
  const name = `t_${randomBytes(6).toString("hex")}`
  const run = async (statement: string) => {
    const sql = postgres(admin, { max: 1, onnotice: () => {} })
    try {
      await sql.unsafe(statement)
    } finally {
      await sql.end()
    }
  }
  await run(
    `CREATE DATABASE ${name} TEMPLATE ${options.template === "none" ? "template0" : "outbox_template"}`,
  )
  const url = admin.replace(/\/postgres$/, `/${name}`)
  const sql = postgres(url, { onnotice: () => {} })
  return {
    url,
    sql,
    drop: async () => {
      await sql.end()
      await run(`DROP DATABASE ${name} WITH (FORCE)`)
    },
  }
}
