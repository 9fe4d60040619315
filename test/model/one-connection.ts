/** A PostgreSQL in this process behind a pool of one connection: whoever writes late meets the next transaction on it. */
import type { PGlite } from "@electric-sql/pglite"
import { drizzle } from "drizzle-orm/node-postgres"
import type { AnyDatabase } from "../../src/outbox/transaction.ts"

/** What Drizzle's driver for node-postgres uses of a query. */
type Query = string | { readonly text: string; readonly rowMode?: "array" }

interface Connection {
  readonly query: (query: Query, values?: ReadonlyArray<unknown>) => Promise<unknown>
  readonly release: () => void
}

/** Drizzle knows a pool by its name. */
class OnePool {
  readonly #server: PGlite
  #busy = false
  #closed = false
  readonly #waiting: Array<() => void> = []
  constructor(server: PGlite) {
    this.#server = server
  }
  async connect(): Promise<Connection> {
    while (this.#busy) await new Promise<void>((resolve) => this.#waiting.push(resolve))
    this.#busy = true
    return {
      query: (query, values) => this.#run(query, values),
      release: () => {
        this.#busy = false
        this.#waiting.shift()?.()
      },
    }
  }
  async query(query: Query, values?: ReadonlyArray<unknown>): Promise<unknown> {
    const connection = await this.connect()
    try {
      return await connection.query(query, values)
    } finally {
      connection.release()
    }
  }
  async close(): Promise<void> {
    this.#closed = true
    await this.#server.exec("ROLLBACK")
  }
  async #run(query: Query, values: ReadonlyArray<unknown> = []): Promise<unknown> {
    // What is left of a world that has ended must not reach the next one.
    if (this.#closed) return new Promise(() => {})
    const { text, rowMode } = typeof query === "string" ? { text: query, rowMode: undefined } : query
    return this.#server.query(text, [...values], rowMode === undefined ? {} : { rowMode })
  }
}

export interface OneConnection {
  readonly db: AnyDatabase
  /** Cuts the connection: what was open is rolled back. */
  readonly close: () => Promise<void>
}

/** Connects to a server in this process, which nobody else may use meanwhile. */
export const connectTo = (server: PGlite): OneConnection => {
  const pool = new OnePool(server)
  return { db: drizzle({ client: pool as never }) as AnyDatabase, close: () => pool.close() }
}
