/** A pool of connections to the outbox's database. */
import * as Effect from "effect/Effect"
import type * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import postgres, { type Sql } from "postgres"
import { readDatabaseUrl } from "./database-url.ts"
import { StoreError, storeError } from "./error.ts"

export interface ConnectOptions {
  readonly url: string | Redacted.Redacted<string>
  /** Connections at the most. */
  readonly connections: number
  /** Prepared statements, which a transaction pooler cannot keep. */
  readonly prepare: boolean
  /** Further settings of the sessions. */
  readonly settings?: Readonly<Record<string, string>>
}

/** A pool that connects when it is first used. Dates come as ISO text in UTC, whatever the server's own style. Throws a `StoreError`. */
export const openPool = (options: ConnectOptions): Sql => {
  try {
    const { url, ssl } = readDatabaseUrl(options.url)
    return postgres(url, {
      ssl,
      max: options.connections,
      onnotice: () => {},
      connect_timeout: 10,
      // Seconds between attempts to connect. The driver's own grow to 20: a database that is back would wait for us.
      backoff: () => 0.2,
      fetch_types: false,
      prepare: options.prepare,
      connection: {
        application_name: "drizzle-outbox",
        TimeZone: "UTC",
        DateStyle: "ISO",
        ...options.settings,
      },
    })
  } catch (error) {
    if (error instanceof StoreError) throw error
    // The driver's own words could quote the URL, and so the password.
    throw new StoreError({
      reason: "statement",
      message: "the database URL is not one: expected postgres://user:password@host:port/database",
    })
  }
}

/** Opens the pool and tries it; it closes with the scope. */
export const connect = (options: ConnectOptions): Effect.Effect<Sql, StoreError, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.try({ try: () => openPool(options), catch: (error) => error as StoreError }),
    (sql) => Effect.promise(() => sql.end({ timeout: 2 })),
  ).pipe(
    Effect.tap((sql) =>
      Effect.tryPromise({
        try: () => sql`SELECT 1`,
        catch: (cause) => storeError("connect to the database", cause),
      }),
    ),
  )
