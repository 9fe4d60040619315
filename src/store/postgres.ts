/** The outbox's tables in PostgreSQL, through a small pool of connections of the relay's own. */
import { Effect, Layer, Redacted, type Scope } from "effect"
import postgres, { type Sql } from "postgres"
import { StoreError, storeError } from "./error.ts"
import { checkSchema } from "./migrate.ts"
import { makeStatements } from "./statements.ts"
import { OutboxStore } from "./store.ts"

export interface PostgresOptions {
  readonly url: string | Redacted.Redacted<string>
  /** Schema of the outbox's tables. Default "outbox". */
  readonly schema?: string
  /** Connections at the most. Default 4: reading, settling, the lease and retention may overlap. */
  readonly connections?: number
}

/** The store on a database of its own connections, which close with the layer. */
export const layerPostgres = (options: PostgresOptions): Layer.Layer<OutboxStore, StoreError> =>
  Layer.effect(
    OutboxStore,
    Effect.flatMap(connect(options), (sql) => make(sql, options.schema ?? "outbox")),
  )

/**
 * Opens the pool. Sequential scans are off in its sessions: a plan made while the table was small would scan it for as
 * long as it is cached. A transaction pooler refuses such a setting and cannot keep prepared statements: then neither is used.
 */
const connect = (options: PostgresOptions): Effect.Effect<Sql, StoreError, Scope.Scope> => {
  const url = Redacted.isRedacted(options.url) ? Redacted.value(options.url) : options.url
  const open = (pooled: boolean) =>
    Effect.acquireRelease(
      Effect.try({
        try: () =>
          postgres(url, {
            max: options.connections ?? 4,
            onnotice: () => {},
            connect_timeout: 10,
            fetch_types: false,
            prepare: !pooled,
            connection: { application_name: "drizzle-outbox", ...(pooled ? {} : { enable_seqscan: "off" }) },
          }),
        // The driver's own words could quote the URL, and so the password.
        catch: () =>
          new StoreError({
            reason: "statement",
            message: "the database URL is not one: expected postgres://user:password@host:port/database",
          }),
      }),
      (sql) => Effect.promise(() => sql.end({ timeout: 2 })),
    ).pipe(
      Effect.tap((sql) =>
        Effect.tryPromise({
          try: () => sql`SELECT 1`,
          catch: (cause) => storeError("connect to the database", cause),
        }),
      ),
    )
  return open(false).pipe(
    Effect.catch((error) =>
      /unsupported startup parameter/.test(error.message) ? open(true) : Effect.fail(error),
    ),
  )
}

const make = (sql: Sql, schema: string): Effect.Effect<OutboxStore["Service"], StoreError> => {
  const statements = makeStatements(sql, schema)
  const run = <A>(doing: string, statement: () => Promise<A>): Effect.Effect<A, StoreError> =>
    Effect.tryPromise({ try: statement, catch: (cause) => storeError(doing, cause) })
  return Effect.succeed({
    open: checkSchema(sql, schema).pipe(
      Effect.andThen(run("check the outbox's sequence", statements.sequence)),
      Effect.flatMap(({ cache, last }) =>
        cache === 1
          ? Effect.map(run("read the outbox's floor", statements.floor), (floor) =>
              floor > last ? 0 : floor,
            )
          : Effect.fail(
              new StoreError({
                reason: "schema",
                message: `the sequence of "${schema}".messages.position has CACHE ${cache}, which breaks the order of messages: run ALTER TABLE "${schema}".messages ALTER COLUMN position SET CACHE 1`,
              }),
            ),
      ),
    ),
    tick: (tick) => run("renew the relay's lease", () => statements.tick(tick)),
    release: (relay, lanes) => run("release lanes", () => statements.release(relay, lanes)),
    read: (pass) =>
      run("read the outbox", () =>
        pass.from < pass.cursor ? statements.readReady(pass) : statements.readNew(pass),
      ),
    writers: run("look for open writers", statements.writers),
    refused: (lanes) => run("read refused messages", () => statements.refused(lanes)),
    promote: (lanes, limit) => run("make due messages ready", () => statements.promote(lanes, limit)),
    published: (positions, keep) =>
      run("settle published messages", () =>
        keep ? statements.markPublished(positions) : statements.deletePublished(positions),
      ),
    judge: (verdicts) => run("settle refused messages", () => statements.judge(verdicts)),
    purge: (request) => run("purge finished messages", () => statements.purge(request)),
    counts: run("count messages", statements.counts),
  })
}
