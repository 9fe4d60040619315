/** A transaction's handle that can be taken back. */
import { type SQL, sql } from "drizzle-orm"
import { DrizzleQueryError } from "drizzle-orm/errors"
import type { Sql } from "postgres"
import type { AnyTransaction } from "../outbox/append.ts"
import { awaitCommit } from "../outbox/nudge.ts"
import { isDisconnection } from "../store/error.ts"
import type { Preparing } from "./preparing.ts"
import { TransactionEnded } from "./transaction-ended.ts"

export interface Revocable {
  /** For the handler. */
  readonly tx: AnyTransaction
  /** The driver's connection, behind the same guard. */
  readonly client: object
  /** Refuses every further statement, also those of savepoints and of queries built before, and waits for those that were sent. */
  readonly end: () => Promise<void>
  /** What the first failed statement threw, whether or not anybody caught it. */
  readonly failure: () => Broken | undefined
  /** A statement has failed with its connection. */
  readonly gone: () => boolean
}

/** A statement that failed. */
export interface Broken {
  readonly cause: unknown
  /** It was prepared, and may have failed for that. */
  readonly again: boolean
}

/** What of Drizzle's transactions is alike in all drivers, though not in its types. */
interface Inner {
  readonly constructor: new (...parts: ReadonlyArray<unknown>) => AnyTransaction & Inner
  readonly dialect: unknown
  readonly schema: unknown
  readonly nestedIndex: number
  readonly session: Session
}
interface Session {
  readonly client: object
  readonly prepareQuery: (...parts: ReadonlyArray<unknown>) => Prepared
}
interface Prepared {
  execute: (...values: ReadonlyArray<unknown>) => Promise<unknown>
}

/** Guards `raw`, whose own handle stays unguarded: its driver ends the transaction through that one. */
export const revocable = (raw: AnyTransaction, preparing: Preparing): Revocable => {
  let failure: Broken | undefined
  let ended = false
  let gone: { readonly cause: unknown } | undefined
  /** Rejects what waits for a savepoint when the transaction ends. */
  const refusals = new Set<(ended: TransactionEnded) => void>()
  const sent = new Set<Promise<void>>()

  const watch = (result: unknown, prepared?: string): void => {
    if (!isThenable(result)) return
    const settled: Promise<void> = Promise.resolve(
      result.then(
        () => {},
        (cause: unknown) => {
          if (isDisconnection(cause)) gone ??= { cause }
          const again = prepared !== undefined && preparing.blames(prepared, cause)
          // Whatever else fails after it, and whoever caught it in a savepoint.
          if (again || failure === undefined) failure = { cause, again }
        },
      ),
    ).then(() => void sent.delete(settled))
    sent.add(settled)
  }

  /** The text of a statement that Drizzle gives postgres.js unprepared, and that is better prepared. */
  const toPrepare = ([text, parameters, options]: ReadonlyArray<unknown>): string | undefined =>
    typeof text === "string" &&
    Array.isArray(parameters) &&
    parameters.length > 0 &&
    (options as { readonly prepare?: unknown } | undefined)?.prepare === false &&
    preparing.wants(text)
      ? text
      : undefined

  const guard = <Client extends object>(client: Client): Client =>
    new Proxy(client, {
      get: (target, name) => {
        const value: unknown = Reflect.get(target, name, target)
        if (typeof value !== "function" || name === "constructor") return value
        return (...parts: ReadonlyArray<unknown>) => {
          if (ended) throw new TransactionEnded()
          // Between a connection's error and its end, postgres.js keeps what it is given for the connection's next life,
          // whose first answers it then takes for this statement's.
          if (gone !== undefined) throw gone.cause
          const prepared = name === "unsafe" ? toPrepare(parts) : undefined
          const given =
            prepared === undefined ? parts : [parts[0], parts[1], { ...Object(parts[2]), prepare: true }]
          const result: unknown = Reflect.apply(value, target, given)
          watch(result, prepared)
          return result
        }
      },
    })

  /** The same session on the guarded connection; a refusal comes as itself, not wrapped as a failed query. */
  const guardSession = (session: Session): Session => {
    const guarded: Session = Object.assign(Object.create(Object.getPrototypeOf(session)), session, {
      client: guard(session.client),
      prepareQuery: (...parts: ReadonlyArray<unknown>) => {
        const prepared: Prepared = Reflect.apply(Object.getPrototypeOf(session).prepareQuery, guarded, parts)
        const execute = prepared.execute.bind(prepared)
        prepared.execute = (...values: ReadonlyArray<unknown>) => execute(...values).catch(unwrap)
        return prepared
      },
    })
    return guarded
  }

  const wrap = (given: AnyTransaction): AnyTransaction & Inner => {
    const inner = given as AnyTransaction & Inner
    const { constructor: Transaction, dialect, schema, nestedIndex } = inner
    const tx = new Transaction(dialect, guardSession(inner.session), schema, nestedIndex)
    /**
     * A savepoint. When the transaction has ended in the meantime its body is never seen to settle: the driver would
     * roll back to a savepoint of whichever transaction has the connection by then.
     */
    tx.transaction = <A>(body: (tx: never) => Promise<A>): Promise<A> => {
      if (ended) return Promise.reject(new TransactionEnded())
      let released = () => {}
      const savepoint = inner.transaction(async (deeper) => {
        const nested = wrap(deeper)
        released = awaitCommit(nested, tx)
        try {
          return await body(nested as never)
        } finally {
          if (ended) await NEVER
        }
      })
      return new Promise<A>((resolve, reject) => {
        refusals.add(reject)
        savepoint
          .then((value) => {
            released()
            resolve(value as A)
          }, reject)
          .finally(() => refusals.delete(reject))
      })
    }
    return tx
  }

  const tx = wrap(raw)
  return {
    tx,
    client: tx.session.client,
    end: async () => {
      ended = true
      for (const refuse of refusals) refuse(new TransactionEnded())
      await Promise.all(sent)
    },
    failure: () => failure,
    gone: () => gone !== undefined,
  }
}

const NEVER = new Promise<never>(() => {})

const isThenable = (value: unknown): value is PromiseLike<unknown> =>
  typeof value === "object" && value !== null && "then" in value && typeof value.then === "function"

const unwrap = (error: unknown): never => {
  throw error instanceof DrizzleQueryError && error.cause instanceof TransactionEnded ? error.cause : error
}

/** The rows of a result, which postgres.js gives as an array and the others as an object. */
export const rowsOf = async <Row>(
  on: { readonly execute: (statement: SQL) => PromiseLike<unknown> },
  statement: SQL,
): Promise<ReadonlyArray<Row>> => {
  const result = await on.execute(statement)
  return (Array.isArray(result) ? result : (result as { readonly rows: ReadonlyArray<Row> }).rows) as Row[]
}

/** The rows of a statement of which every message takes one. Drizzle's way to postgres.js costs more than the statement's own work. */
export const rowsOfText = async <Row>(tx: AnyTransaction, text: string): Promise<ReadonlyArray<Row>> => {
  const { client } = (tx as AnyTransaction & Inner).session
  return isPostgresJs(client) ? await client.unsafe<Row[] & object[]>(text) : rowsOf<Row>(tx, sql.raw(text))
}

const isPostgresJs = (client: object): client is Sql => "unsafe" in client
