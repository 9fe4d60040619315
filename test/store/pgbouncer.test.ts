/** The PgBouncer of the tests is one: in transaction mode a client changes its server connection, in session mode never. */
import postgres from "postgres"
import { describe, expect, test } from "vitest"
import { startPgBouncer } from "../support/pgbouncer.ts"
import { createDatabase } from "../support/postgres.ts"

describe("PgBouncer", () => {
  for (const mode of ["transaction", "session"] as const)
    test(`in ${mode} mode`, async () => {
      const database = await createDatabase()
      const bouncer = await startPgBouncer({ url: database.url, mode, poolSize: 2 })
      const connect = () => postgres(bouncer.url, { max: 1, prepare: false, fetch_types: false })
      const [one, two] = [connect(), connect()]
      try {
        const [first] = await one`SELECT pg_backend_pid() AS pid`
        const seen = await two.begin(async (tx) => {
          const [other] = await tx`SELECT pg_backend_pid() AS pid`
          return other?.["pid"]
        })
        expect(seen === first?.["pid"]).toBe(mode === "transaction")
      } finally {
        await Promise.all([one.end(), two.end()])
        await bouncer.remove()
        await database.drop()
      }
    })
})
