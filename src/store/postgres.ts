/** The outbox's tables in PostgreSQL, through a small pool of connections of the relay's own. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Redacted from "effect/Redacted"
import type { Sql } from "postgres"
import { type ConnectOptions, connect, openPool } from "./connect.ts"
import { isDisconnection, StoreError, storeError } from "./error.ts"
import { checkSchema } from "./migrate.ts"
import { makeStatements } from "./statements.ts"
import { OutboxStore } from "./store.ts"

export interface PostgresOptions {
  readonly url: string | Redacted.Redacted<string>
  /** Schema of the outbox's tables. Default "outbox". */
  readonly schema?: string
  /** Connections at the most. Default 4: reading, settling, the lease and retention may overlap. */
  readonly connections?: number
  /** A statement that has no answer by then counts as failed, and its connections as dead. Default 60 s. */
  readonly statementTimeout?: Duration.Input
}

/** Seconds that are left to what is under way on a pool that is given up. */
const PARTING = 1

/** The store on a database of its own connections, which close with the layer. */
export const layerPostgres = (options: PostgresOptions): Layer.Layer<OutboxStore, StoreError> =>
  Layer.effect(
    OutboxStore,
    Effect.gen(function* () {
      const schema = options.schema ?? "outbox"
      const { sql, how } = yield* open(options)
      let current = { sql, statements: makeStatements(sql, schema) }
      let renewed: Sql | undefined
      yield* Effect.addFinalizer(() => Effect.promise(async () => renewed?.end({ timeout: 2 })))
      /**
       * A pool whose connections have died is given up. What postgres.js 3.4 was given at the wrong moment of a connection's
       * end is never answered, and what it was about to write keeps that connection from opening again: each further
       * attempt hangs until its time is over.
       */
      const renew = (old: Sql) => {
        if (current.sql !== old) return
        renewed = openPool(how)
        current = { sql: renewed, statements: makeStatements(renewed, schema) }
        void old.end({ timeout: PARTING }).catch(() => {})
      }
      const limit = Duration.toMillis(options.statementTimeout ?? "60 seconds")
      const run: Run = (doing, statement) =>
        Effect.suspend(() => {
          const { sql, statements } = current
          return Effect.tryPromise({
            try: () => statement(statements),
            catch: (cause) => {
              if (isDisconnection(cause)) renew(sql)
              return storeError(doing, cause)
            },
          }).pipe(
            Effect.timeoutOrElse({
              duration: limit,
              orElse: () =>
                Effect.suspend(() => {
                  renew(sql)
                  const message = `could not ${doing}: the database has not answered for ${limit} ms`
                  return Effect.fail(new StoreError({ reason: "unavailable", message }))
                }),
            }),
          )
        })
      return make(run, () => current.sql, schema)
    }),
  )

type Statements = ReturnType<typeof makeStatements>
type Run = <A>(
  doing: string,
  statement: (statements: Statements) => Promise<A>,
) => Effect.Effect<A, StoreError>

/**
 * Sequential scans are off in the relay's sessions: a plan made while the table was small would scan it for as long as it
 * is cached. Nor is anything looked for that others put into a schema such as "public". A transaction pooler refuses such
 * settings and cannot keep prepared statements: then neither is used.
 */
const open = ({ url, connections = 4 }: PostgresOptions) => {
  const direct: ConnectOptions = {
    url,
    connections,
    prepare: true,
    settings: { enable_seqscan: "off", search_path: "pg_catalog" },
  }
  const pooled: ConnectOptions = { url, connections, prepare: false }
  const as = (how: ConnectOptions) => Effect.map(connect(how), (sql) => ({ sql, how }))
  return Effect.catch(as(direct), (error) =>
    /unsupported startup parameter/.test(error.message) ? as(pooled) : Effect.fail(error),
  )
}

const make = (run: Run, sql: () => Sql, schema: string): OutboxStore["Service"] =>
  OutboxStore.of({
    open: Effect.suspend(() => checkSchema(sql(), schema)).pipe(
      Effect.andThen(run("check the outbox's sequence", (statements) => statements.sequence())),
      Effect.flatMap(({ cache, last }) =>
        cache === 1
          ? Effect.map(
              run("read the outbox's floor", (statements) => statements.floor()),
              (floor) => (floor > last ? 0 : floor),
            )
          : Effect.fail(
              new StoreError({
                reason: "schema",
                message: `the sequence of "${schema}".messages.position has CACHE ${cache}, which breaks the order of messages: run ALTER TABLE "${schema}".messages ALTER COLUMN position SET CACHE 1`,
              }),
            ),
      ),
    ),
    tick: (tick) => run("renew the relay's lease", (statements) => statements.tick(tick)),
    release: (relay, lanes) => run("release lanes", (statements) => statements.release(relay, lanes)),
    read: (pass) =>
      run("read the outbox", (statements) =>
        pass.from < pass.cursor ? statements.readReady(pass) : statements.readNew(pass),
      ),
    writers: run("look for open writers", (statements) => statements.writers()),
    refused: (lanes) => run("read refused messages", (statements) => statements.refused(lanes)),
    promote: (lanes, limit) =>
      run("make due messages ready", (statements) => statements.promote(lanes, limit)),
    published: (positions, keep) =>
      run("settle published messages", (statements) =>
        keep ? statements.markPublished(positions) : statements.deletePublished(positions),
      ),
    judge: (verdicts) => run("settle refused messages", (statements) => statements.judge(verdicts)),
    purge: (request) => run("purge finished messages", (statements) => statements.purge(request)),
    counts: run("count messages", (statements) => statements.counts()),
  })
