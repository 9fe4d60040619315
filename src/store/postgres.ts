/** The outbox's tables in PostgreSQL, through a small pool of connections of the relay's own. */
import { Effect, Layer, type Redacted, type Scope } from "effect"
import type { Sql } from "postgres"
import { connect } from "./connect.ts"
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
    Effect.flatMap(open(options), (sql) => make(sql, options.schema ?? "outbox")),
  )

/**
 * Sequential scans are off in the relay's sessions: a plan made while the table was small would scan it for as long as it
 * is cached. Nor is anything looked for that others put into a schema such as "public". A transaction pooler refuses such
 * settings and cannot keep prepared statements: then neither is used.
 */
const open = ({ url, connections = 4 }: PostgresOptions): Effect.Effect<Sql, StoreError, Scope.Scope> =>
  connect({
    url,
    connections,
    prepare: true,
    settings: { enable_seqscan: "off", search_path: "pg_catalog" },
  }).pipe(
    Effect.catch((error) =>
      /unsupported startup parameter/.test(error.message)
        ? connect({ url, connections, prepare: false })
        : Effect.fail(error),
    ),
  )

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
