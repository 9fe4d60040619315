/** The inbox's tables in PostgreSQL, on the user's own Drizzle database: the handler's writes and the record commit together. */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { append } from "../outbox/append.ts"
import type { AnyDatabase } from "../outbox/transaction.ts"
import { StoreError, storeError } from "../store/error.ts"
import { checkVersion } from "../store/migrate.ts"
import { limitOf, statementLimitOf } from "./attempt.ts"
import { type Claim, type Due, Inbox, type Parked } from "./inbox.ts"
import { makePreparing } from "./preparing.ts"
import { rowsOf, rowsOfText } from "./revocable.ts"
import { makeStatements } from "./statements.ts"
import { makeTransact } from "./transact.ts"

export interface InboxPostgresOptions {
  /** Schema of the inbox's tables. Default "outbox". */
  readonly schema?: string
}

/**
 * The inbox on `db`, a Drizzle database on any PostgreSQL driver.
 *
 * **Gotchas** Each transaction takes a connection of `db`'s pool for as long as its handler runs, and the consumer needs
 * one more for its own statements. node-postgres needs a `Pool`: on a single `Client` transactions would mix.
 */
export const layerPostgres = (db: AnyDatabase, options: InboxPostgresOptions = {}): Layer.Layer<Inbox> =>
  Layer.succeed(Inbox, make(db, options.schema ?? "outbox"))

/** A statement of the inbox's own that takes longer, in milliseconds, has no database to answer it. */
const PATIENCE = 30_000

const make = (db: AnyDatabase, schema: string): Inbox["Service"] => {
  const statements = makeStatements(schema)
  const transact = makeTransact(db, makePreparing())
  const run = <A>(doing: string, statement: () => Promise<A>): Effect.Effect<A, StoreError> =>
    Effect.tryPromise({ try: statement, catch: (cause) => storeError(doing, cause) }).pipe(
      Effect.timeoutOrElse({
        duration: PATIENCE,
        orElse: () =>
          Effect.fail(
            new StoreError({
              reason: "unavailable",
              message: `could not ${doing}: the database has not answered for ${PATIENCE} ms`,
            }),
          ),
      }),
    )
  return {
    open: run("read the inbox's version", async () => {
      const [row] = await rowsOf<Defaults>(db, statements.version())
      return row
    }).pipe(
      Effect.flatMap((row) => {
        const wrong = row && wrongDefault(row)
        return wrong === undefined
          ? checkVersion(Number(row?.version), schema)
          : Effect.fail(new StoreError({ reason: "schema", message: wrong }))
      }),
    ),

    transact: (body, options) => {
      const { claim, statementMillis } = options
      if (claim === undefined || claim.arrivals.length === 0) {
        return transact((tx) => body(tx, []), options)
      }
      const { scope, arrivals, ordered } = claim
      const limit = limitOf(statementMillis)
      const [only] = arrivals
      const opening = {
        text: () => statements.claim(scope, arrivals, ordered, limit),
        ...(arrivals.length === 1 &&
          only !== undefined && { prepared: statements.claimPrepared(scope, only, ordered, limit) }),
      }
      return transact((tx, rows) => body(tx, claimsOf(rows)), options, opening)
    },

    claim: async (tx, scope, arrivals, ordered) => {
      if (arrivals.length === 0) return []
      const rows = await rowsOfText(tx, statements.claim(scope, arrivals, ordered, statementLimitOf(tx)))
      return claimsOf(rows)
    },

    look: (scope, arrival, ordered) =>
      run("look into the inbox", async () => {
        const [row] = await rowsOf<{ claim: Claim }>(db, statements.look(scope, arrival, ordered))
        return row?.claim ?? "fresh"
      }),

    resume: async (tx, scope, messageId) => {
      const [row] = await rowsOfText<{ resumed: boolean }>(
        tx,
        statements.resume(scope, messageId, statementLimitOf(tx)),
      )
      return row?.resumed === true
    },

    park: async (tx, scope, arrival, parking) => {
      await tx.execute(statements.park(scope, arrival, parking, statementLimitOf(tx)))
    },

    bury: async (tx, scope, arrival, death) => {
      const [row] = await rowsOf<{ buried: boolean }>(
        tx,
        statements.bury(scope, arrival, death, statementLimitOf(tx)),
      )
      return row?.buried === true
    },

    emit: (tx, draft) => append(tx, schema, [draft]),

    start: (scope, arrival, before, keepMillis) =>
      run("record a start", async () => {
        const [row] = await rowsOf<{ started: number }>(
          db,
          statements.start(scope, arrival, before, keepMillis),
        )
        return Number(row?.started ?? 0)
      }),

    due: (scope, limit, soonest) =>
      run("read parked messages", async (): Promise<Due> => {
        const most = soonest ? 1 : limit
        const rows = await rowsOf<ParkedRow>(db, statements.due(scope, most, soonest))
        const given = rows.slice(0, most).filter((row) => soonest || row.wait <= 0)
        const next = rows[given.length]
        return {
          parked: given.map(toParked),
          nextMillis: next === undefined ? undefined : Math.max(0, next.wait),
        }
      }),

    join: (member, leaseMillis, ordered) =>
      run("register a consumer", async () => {
        const [row] = await rowsOf<{ others: number }>(db, statements.join(member, leaseMillis))
        if (!ordered) await db.execute(statements.loosen(member))
        return Number(row?.others) > 0
      }),

    renew: (member, renewal) =>
      run("renew a consumer", async () => {
        const [row] = await rowsOf<{ holds: boolean }>(db, statements.renew(member, renewal))
        return row?.holds === true
      }),

    release: (member, afterMillis) =>
      run("release a subscription", async () => {
        await db.execute(statements.release(member, afterMillis))
      }),

    leave: (member) =>
      run("forget a consumer", async () => {
        await db.execute(statements.leave(member))
      }),

    purge: (scope, olderThanMillis, limit) =>
      run("purge handled messages", async () => {
        const [row] = await rowsOf<{ purged: number }>(db, statements.purge(scope, olderThanMillis, limit))
        return Number(row?.purged)
      }),
  }
}

const claimsOf = (rows: ReadonlyArray<unknown>): ReadonlyArray<Claim> => {
  const claims: Claim[] = []
  for (const row of rows) claims.push((row as { readonly claim: Claim }).claim)
  return claims
}

interface Defaults {
  readonly version: number
  readonly isolation: string
  readonly deferrable: string
}

/** What is wrong with how transactions begin that ask for nothing, and what to do. */
const wrongDefault = ({ isolation, deferrable }: Defaults): string | undefined => {
  const remedy = (setting: string, value: string) =>
    `set ${setting} to "${value}" for the consumer's role or connections`
  if (isolation !== "read committed")
    return `transactions of this database are ${isolation} by default, and a claim must see what it has waited for: ${remedy("default_transaction_isolation", "read committed")}`
  if (deferrable !== "off")
    return `transactions of this database are deferrable by default, which is how a claim knows its own: ${remedy("default_transaction_deferrable", "off")}`
  return undefined
}

interface ParkedRow {
  readonly message_id: string
  readonly destination: string
  readonly key: string | null
  readonly attempts: number
  readonly started: number
  readonly wait: number
  readonly headers: Readonly<Record<string, string>> | null
  readonly body: Uint8Array | null
}

const toParked = (row: ParkedRow): Parked => ({
  arrival: {
    messageId: row.message_id,
    destination: row.destination,
    key: row.key,
    headers: row.headers ?? {},
    body: row.body ?? new Uint8Array(),
  },
  attempts: Number(row.attempts),
  started: Number(row.started),
})
