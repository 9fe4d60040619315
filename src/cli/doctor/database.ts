/** Every check of the database, one after the other. One that fails says so, and the others go on. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { Sql, TransactionSql } from "postgres"
import { type Config, required } from "../../config.ts"
import { type StoreError, storeError } from "../../store/error.ts"
import { connectDatabase } from "../database.ts"
import { checkBacklog } from "./backlog-checks.ts"
import { readDestinations } from "./destinations.ts"
import { type Finding, problem, unchecked } from "./finding.ts"
import { checkPooler } from "./pooler-check.ts"
import { checkPrivileges, type Part } from "./privilege-checks.ts"
import { checkIndexes, checkMigrated, checkSequences, checkStorage } from "./schema-checks.ts"
import { checkClock, checkDurability, checkServer } from "./server-checks.ts"
import { checkPrepared, checkSlots, checkTransactions } from "./transaction-checks.ts"
import { checkVacuum } from "./vacuum-checks.ts"

/** The transaction of one check. */
export type Query = TransactionSql

export interface DatabaseOptions {
  /** From which age on a transaction is told. */
  readonly longTransaction: Duration.Duration
  /** What this role is meant to be. */
  readonly part: Part | undefined
}

export interface DatabaseFindings {
  readonly findings: ReadonlyArray<Finding>
  /** Destinations of the outbox's messages; empty where they cannot be read. */
  readonly destinations: ReadonlyArray<string>
}

export const checkDatabase = (
  config: Config<"databaseUrl" | "schema" | "listen">,
  options: DatabaseOptions,
): Effect.Effect<DatabaseFindings> =>
  Effect.gen(function* () {
    const url = required("databaseUrl", config)
    const { schema } = config
    const older = Duration.toMillis(options.longTransaction)
    const sql = yield* connectDatabase(config)
    const check = (what: string, run: (tx: Query) => Promise<ReadonlyArray<Finding>>) =>
      inTransaction(sql, what, run).pipe(Effect.catch(couldNot(what)))
    const findings: Finding[] = []
    findings.push(...(yield* check("look at the server", checkServer)))
    findings.push(...(yield* check("look at the clock", checkClock)))
    findings.push(...(yield* check("look at the durability of commits", checkDurability)))
    findings.push(
      ...(yield* checkPooler(url, config.listen).pipe(Effect.catch(couldNot("look for a pooler")))),
    )
    findings.push(
      ...(yield* check("look at transactions", (tx) => checkTransactions(tx, schema, older))),
      ...(yield* check("look at prepared transactions", (tx) => checkPrepared(tx, older))),
      ...(yield* check("look at replication slots", checkSlots)),
    )
    const migrated = yield* check("look at the tables", (tx) => checkMigrated(tx, schema))
    findings.push(...migrated)
    if (migrated.some(({ level }) => level !== "ok")) return { findings, destinations: [] }
    findings.push(
      ...(yield* check("look at the indexes", (tx) => checkIndexes(tx, schema))),
      ...(yield* check("look at the sequences", (tx) => checkSequences(tx, schema))),
      ...(yield* check("look at the storage settings", (tx) => checkStorage(tx, schema))),
      ...(yield* check("look at vacuum", (tx) => checkVacuum(tx, schema))),
      ...(yield* check("look at privileges", (tx) => checkPrivileges(tx, schema, options.part))),
      ...(yield* Effect.tryPromise({
        try: () => checkBacklog(sql, schema),
        catch: (cause) => storeError("look at the backlog", cause),
      }).pipe(Effect.catch(couldNot("look at the backlog")))),
    )
    const destinations = yield* inTransaction(sql, "read the destinations", (tx) =>
      readDestinations(tx, schema),
    ).pipe(Effect.catch(() => Effect.succeed([])))
    return { findings, destinations }
  }).pipe(
    Effect.scoped,
    Effect.catch((error: StoreError) => Effect.succeed({ findings: [away(error)], destinations: [] })),
  )

const STATEMENT_SECONDS = 20

const inTransaction = <A>(
  sql: Sql,
  what: string,
  run: (tx: Query) => Promise<A>,
): Effect.Effect<A, StoreError> =>
  Effect.tryPromise({
    try: () =>
      sql.begin("READ ONLY", async (tx) => {
        await tx.unsafe(
          `SET LOCAL statement_timeout = '${STATEMENT_SECONDS}s'; SET LOCAL lock_timeout = '2s'`,
        )
        return await run(tx)
      }) as Promise<A>,
    catch: (cause) => storeError(what, cause),
  })

const couldNot = (what: string) => (error: StoreError) =>
  Effect.succeed([
    error.isRetryable ? away(error) : unchecked("database.unchecked", what, error.message),
  ] as ReadonlyArray<Finding>)

const away = ({ message, isRetryable }: StoreError): Finding =>
  problem(
    "database.connect",
    "database",
    message,
    isRetryable
      ? "see that it runs, that OUTBOX_DATABASE_URL names its host and port, and that it has connections left"
      : "see the user, the password and the database in OUTBOX_DATABASE_URL",
  )
