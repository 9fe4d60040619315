/** One attempt at a transaction's work: its handle is revoked when it settles, and its end is always known for what it was. */
import type { EventEmitter } from "node:events"
import { sql } from "drizzle-orm"
import * as Effect from "effect/Effect"
import type { AnyTransaction } from "../outbox/append.ts"
import { awaitCommit } from "../outbox/nudge.ts"
import type { AnyDatabase } from "../outbox/transaction.ts"
import { isDisconnection, type StoreError, storeError } from "../store/error.ts"
import { RolledBack, type TransactOptions } from "./inbox.ts"
import type { Opening } from "./opening.ts"
import type { Preparing } from "./preparing.ts"
import { type Broken, type Revocable, revocable, rowsOfText } from "./revocable.ts"

/** Whoever has its transaction calls `work` in it, and then one of `committed` and `failed`. */
export interface Attempt {
  /** The first statement, where it has one. */
  readonly opening: Opening | undefined
  /** The work is done and its commit is about to be sent. */
  readonly onCommit: () => void
  /**
   * Resolves when there is something to commit: with false when a statement has failed on the way, of which the driver
   * may have an opinion. Rejects when it is to be rolled back, and never settles when its connection is nobody's any more.
   */
  readonly work: (raw: AnyTransaction) => Promise<boolean>
  readonly committed: () => void
  readonly failed: (error: unknown) => void
}

export interface Attempted<A> extends Attempt {
  /** Never rejects. */
  readonly done: Promise<Effect.Effect<A, StoreError | RolledBack>>
  /** Rolls back and waits for it, whatever the body does. */
  readonly stop: () => Promise<unknown>
}

/** The body gets the rows of its opening. */
export const makeAttempt = <A>(
  db: AnyDatabase,
  body: (tx: AnyTransaction, rows: ReadonlyArray<unknown>) => Promise<A>,
  { statementMillis, onCommit = () => {} }: TransactOptions,
  preparing: Preparing,
  first: Pick<Opening, "text" | "prepared"> | undefined,
): Attempted<A> => {
  let stage = "waiting" as "waiting" | "running" | "committing" | "over"
  let stopped = false
  let interrupt = () => {}
  let handle: Revocable | undefined
  let announce = () => {}
  let rolledBack: Broken | undefined
  let value: A

  let resolve: (outcome: Effect.Effect<A, StoreError | RolledBack>) => void = () => {}
  const done = new Promise<Effect.Effect<A, StoreError | RolledBack>>((tell) => {
    resolve = tell
  })

  let watch: NodeJS.Timeout | undefined
  /** While only the database is waited for, no statement takes longer, and none waits so long for a key's lock: what does not answer is away. */
  const awaitDatabase = () => {
    const patience = statementMillis + GRACE
    watch ??= setTimeout(() => {
      const words = `the database has not answered for ${patience} ms`
      failed(Object.assign(new Error(words), { code: "ETIMEDOUT" }))
    }, patience).unref()
  }

  const isOver = () => stage === "over"

  const opening: Opening | undefined = first && { ...first, rows: undefined, follow: undefined }
  const run = async (tx: AnyTransaction): Promise<A> =>
    body(tx, opening === undefined ? [] : (opening.rows ?? (await rowsOfText(tx, opening.text()))))

  const work = async (raw: AnyTransaction): Promise<boolean> => {
    if (stopped || isOver()) throw new Error("interrupted before it began")
    stage = "running"
    clearTimeout(watch)
    watch = undefined
    const own = revocable(raw, preparing)
    handle = own
    forgive(own.client)
    announce = awaitCommit(own.tx, db)
    limits.set(own.tx, limitOf(statementMillis))
    try {
      value = await new Promise<A>((resolve, reject) => {
        interrupt = () => reject(new Error("interrupted"))
        run(own.tx).then(resolve, reject)
      })
      awaitDatabase()
      await own.end()
      const failure = own.failure()
      // An aborted transaction would turn its COMMIT into a ROLLBACK, and most drivers would not tell.
      if (failure !== undefined && (failure.again || (await look(raw, own)) !== "well")) throw failure.cause
      if (isOver()) return NEVER
      stage = "committing"
      return failure === undefined
    } catch (cause) {
      awaitDatabase()
      void own.end()
      // The driver has given the connection up already: what it would send now would reach another transaction.
      if (isOver()) return NEVER
      if ((await look(raw, own)) === "gone") {
        // postgres.js has seen it too and rejects by itself; the others must be let go.
        if (isPostgresJs(own.client)) return NEVER
      } else rolledBack = { cause, again: own.failure()?.again === true }
      throw cause
    }
  }

  let told = false
  const committed = () => {
    if (told) return
    told = true
    clearTimeout(watch)
    announce()
    resolve(Effect.succeed(value))
  }
  const failed = (error: unknown) => {
    if (told) return
    told = true
    const committing = stage === "committing"
    stage = "over"
    clearTimeout(watch)
    void handle?.end()
    if (rolledBack !== undefined) return resolve(Effect.fail(new RolledBack(rolledBack)))
    if (committing && !isDisconnection(error)) return resolve(Effect.fail(new RolledBack({ cause: error })))
    const doing = committing
      ? "commit a transaction"
      : handle === undefined
        ? "begin a transaction"
        : "finish a transaction"
    resolve(Effect.fail(storeError(doing, error)))
  }

  awaitDatabase()
  return {
    opening,
    onCommit,
    work,
    committed,
    failed,
    done,
    stop: async () => {
      stopped = true
      interrupt()
      if (stage !== "waiting") await Promise.race([done, sleep(STOP_PATIENCE)])
    },
  }
}

/** Where a connection has gone, its driver says so by itself. */
export const NEVER = new Promise<never>(() => {})

/** How long a statement may take beyond its own limit, in milliseconds, before its database counts as away. */
const GRACE = 5000

/** An interruption waits so many milliseconds for the rollback; what is revoked can write nothing in any case. */
const STOP_PATIENCE = 2000

const sleep = (millis: number) => new Promise<void>((resolve) => setTimeout(resolve, millis).unref())

/** Whether the transaction could go on: `well`, `aborted` by a failed statement, or `gone` with its connection. */
const look = async (raw: AnyTransaction, own: Revocable): Promise<"well" | "aborted" | "gone"> => {
  if (own.gone()) return "gone"
  try {
    await raw.execute(sql.raw("SELECT 1"))
    return "well"
  } catch (error) {
    return isDisconnection(error) ? "gone" : "aborted"
  }
}

const isPostgresJs = (client: object): boolean => "unsafe" in client

/** node-postgres takes the process down when a connection dies idle and nobody listens to it; its next query says so as well. */
const forgive = (client: object): void => {
  const { on, listeners } = client as Partial<EventEmitter>
  if (on !== undefined && listeners !== undefined && !listeners("error").includes(ignore)) on("error", ignore)
}
const ignore = () => {}

/** How long a statement may take in the transaction of this handle, in milliseconds; undefined for the user's own. */
export const statementLimitOf = (tx: AnyTransaction): number | undefined => limits.get(tx)

const limits = new WeakMap<object, number>()

/** A statement's time as PostgreSQL takes it. */
export const limitOf = (statementMillis: number): number => Math.max(1, Math.round(statementMillis))
