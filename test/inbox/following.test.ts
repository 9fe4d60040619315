/** Transactions that begin with the commit of the one before, on its connection: each has an end of its own, on both drivers. */
import { assert, describe, it } from "@effect/vitest"
import { sql } from "drizzle-orm"
import { drizzle as nodePostgres } from "drizzle-orm/node-postgres"
import { drizzle as postgresJs } from "drizzle-orm/postgres-js"
import { Context, Effect, Fiber, Layer, Result } from "effect"
import postgres from "postgres"
import { afterEach, beforeEach } from "vitest"
import type { TransactOptions } from "../../src/inbox/inbox.ts"
import { Inbox, layerPostgres } from "../../src/inbox/index.ts"
import type { AnyTransaction } from "../../src/outbox/append.ts"
import type { AnyDatabase } from "../../src/outbox/transaction.ts"
import { nodePostgresPool } from "../support/node-postgres.ts"
import { createDatabase, type TestDatabase } from "../support/postgres.ts"
import { eventually } from "../support/relay.ts"

/** What postgres.js was given to send. */
let given: string[] = []
const drivers: Record<string, (url: string) => { db: AnyDatabase; close: () => Promise<void> }> = {
  "postgres.js": (url) => {
    const client = postgres(url, {
      max: 1,
      onnotice: () => {},
      backoff: () => 0.05,
      debug: (_, text) => void given.push(text),
    })
    return { db: postgresJs(client), close: () => client.end({ timeout: 1 }) }
  },
  "node-postgres": (url) => {
    const client = nodePostgresPool(url, 1)
    return { db: nodePostgres({ client }), close: () => client.end() }
  },
}

const optionsOf = (id: string): TransactOptions => ({
  statementMillis: 10_000,
  claim: {
    scope: { consumer: "c", queue: "q", ordered: true },
    arrivals: [
      { messageId: id, destination: "/queue/q", key: `key of ${id}`, headers: {}, body: Buffer.from("{}") },
    ],
    ordered: true,
  },
})

type Body = (tx: AnyTransaction, claims: ReadonlyArray<string>) => Promise<unknown>

describe.each(Object.keys(drivers))("Inbox.transact on %s, begun with the commit before", (driver) => {
  let database: TestDatabase
  let db: AnyDatabase
  let inbox: Inbox["Service"]
  let close = async () => {}
  let told: string[] = []
  beforeEach(async () => {
    database = await createDatabase()
    await database.sql`CREATE TABLE effects (id text PRIMARY KEY)`
    await database.sql`CREATE TABLE strict (id text REFERENCES effects DEFERRABLE INITIALLY DEFERRED)`
    const connected = drivers[driver]?.(database.url)
    assert.isDefined(connected)
    ;({ db, close } = connected)
    inbox = Context.get(await Effect.runPromise(Effect.scoped(Layer.build(layerPostgres(db)))), Inbox)
    given = []
    told = []
  })
  afterEach(async () => {
    await close()
    await database.drop()
  })

  const outcome = (id: string, body: Body, onCommit?: () => void) =>
    inbox.transact(body, { ...optionsOf(id), ...(onCommit && { onCommit }) }).pipe(
      Effect.result,
      Effect.map((result) => {
        const word = Result.isSuccess(result) ? "committed" : result.failure._tag
        told.push(`${id} ${word}`)
        return word
      }),
    )
  /** Runs the second when the first is about to commit; gives how they ended. */
  const both = (first: Body, second: Body, whenBegun: (fiber: Fiber.Fiber<unknown>) => void = () => {}) => {
    let following: Fiber.Fiber<string> | undefined
    const begin = () => {
      following = Effect.runFork(outcome("b", second))
      whenBegun(following)
    }
    return Effect.gen(function* () {
      const a = yield* outcome("a", first, begin)
      if (following === undefined) return [a]
      const exit = yield* Fiber.await(following)
      return [a, exit._tag === "Success" ? exit.value : "interrupted"]
    }).pipe(Effect.runPromise)
  }
  const insert = (id: string) => (tx: AnyTransaction) => tx.execute(sql`INSERT INTO effects VALUES (${id})`)
  const ids = async () => (await database.sql`SELECT id FROM effects ORDER BY id`).map(({ id }) => id)
  const handled = async () =>
    (await database.sql`SELECT message_id AS id FROM outbox.inbox ORDER BY 1`).map(({ id }) => id)
  /** The next begins on a clean connection. */
  const well = async () => {
    assert.strictEqual(await Effect.runPromise(outcome("well", insert("well"))), "committed")
    assert.include(await ids(), "well")
    const [row] = await database.sql`
      SELECT count(*)::int AS open FROM pg_stat_activity
      WHERE datname = current_database() AND state LIKE 'idle in transaction%'`
    assert.strictEqual(row?.["open"], 0)
  }

  it("is a transaction of its own, that sees the one before", async () => {
    const xids: unknown[] = []
    const body = (id: string) => async (tx: AnyTransaction, claims: ReadonlyArray<string>) => {
      assert.deepStrictEqual(claims, ["fresh"])
      await insert(id)(tx)
      const rows = await tx.execute(
        sql`SELECT pg_current_xact_id()::text AS xid, count(*)::int AS n FROM effects`,
      )
      xids.push(...((rows as { rows?: unknown[] }).rows ?? (rows as unknown as unknown[])))
    }
    assert.deepStrictEqual(await both(body("a"), body("b")), ["committed", "committed"])
    const [a, b] = xids as Array<{ readonly xid: string; readonly n: number }>
    assert.notStrictEqual(a?.xid, b?.xid)
    assert.deepStrictEqual([a?.n, b?.n], [1, 2])
    assert.deepStrictEqual(await ids(), ["a", "b"])
    assert.deepStrictEqual(await handled(), ["a", "b"])
    if (driver === "postgres.js") {
      const sent = () => {
        const commit = given.indexOf("commit")
        return given
          .slice(commit, commit + 3)
          .map((text) => text.replace(/^SELECT .*inbox_claim_one.*/s, "claim"))
          .join()
      }
      const nothing = async () => {}
      // One that took longer than its connection may be kept, as on a busy machine, is followed by none.
      for (let turn = 1; turn < 20 && sent() !== "commit,begin DEFERRABLE,claim"; turn++) {
        given = []
        await both(nothing, nothing)
      }
      assert.strictEqual(sent(), "commit,begin DEFERRABLE,claim")
    }
    await well()
  })

  it("goes through when the commit before is refused", async () => {
    const refused = (tx: AnyTransaction) => tx.execute(sql`INSERT INTO strict VALUES ('nothing')`)
    assert.deepStrictEqual(await both(refused, insert("b")), ["RolledBack", "committed"])
    assert.deepStrictEqual(await ids(), ["b"])
    assert.deepStrictEqual(await handled(), ["b"])
    await well()
  })

  it("fails alone", async () => {
    const fails: Body = async (tx) => {
      await insert("b")(tx)
      throw new Error("no")
    }
    assert.deepStrictEqual(await both(insert("a"), fails), ["committed", "RolledBack"])
    assert.deepStrictEqual(told, ["a committed", "b RolledBack"])
    const breaks: Body = (tx) => tx.execute(sql`SELECT 1 / 0`).catch(() => {})
    const again = await Effect.runPromise(
      outcome("c", insert("c"), () => Effect.runFork(outcome("d", breaks))),
    )
    assert.strictEqual(again, "committed")
    await well()
    assert.deepStrictEqual(await handled(), ["a", "c", "well"])
    assert.include(told, "d RolledBack")
  })

  it("is not held up by a statement before it that failed and was caught", async () => {
    const caught: Body = async (tx) => {
      await insert("a")(tx)
      await tx.transaction((inner) => inner.execute(sql`SELECT 1 / 0`)).catch(() => {})
    }
    assert.deepStrictEqual(await both(caught, insert("b")), ["committed", "committed"])
    assert.deepStrictEqual(await ids(), ["a", "b"])
    await well()
  })

  it("interrupted before it has begun does nothing", async () => {
    const ends = await both(insert("a"), insert("b"), (fiber) => fiber.interruptUnsafe())
    assert.deepStrictEqual(ends, ["committed", "interrupted"])
    await well()
    assert.deepStrictEqual(await handled(), ["a", "well"])
  })

  it("is told when its connection goes, and the one before is not", async () => {
    const killed: Body = async (tx) => {
      await insert("b")(tx)
      await tx.execute(sql`SELECT pg_terminate_backend(pg_backend_pid())`)
    }
    assert.deepStrictEqual(await both(insert("a"), killed), ["committed", "StoreError"])
    assert.deepStrictEqual(await ids(), ["a"])
    await eventually(well)
  })

  it("whose claim cannot be made is no failure of the one before", async () => {
    const takesAway: Body = async (tx) => {
      await insert("a")(tx)
      await tx.execute(
        sql`ALTER FUNCTION outbox.inbox_claim_one(text, text, text, text, text, boolean) RENAME TO gone`,
      )
    }
    const begun = await both(takesAway, insert("b"))
    assert.strictEqual(begun[0], "committed")
    assert.notStrictEqual(begun[1], "committed")
    assert.deepStrictEqual(await ids(), ["a"])
    await database.sql`ALTER FUNCTION outbox.gone(text, text, text, text, text, boolean) RENAME TO inbox_claim_one`
    await well()
  })

  it("lets others have the connection in between, however many follow each other", async () => {
    let left = 400
    let last = (): void => {}
    const done = new Promise<void>((resolve) => {
      last = resolve
    })
    const next = (): void => {
      const id = `m${left}`
      if (--left < 0) last()
      else Effect.runFork(outcome(id, insert(id), next))
    }
    next()
    await new Promise((resolve) => setTimeout(resolve, 100))
    await db.execute(sql`SELECT 1`)
    assert.isAbove(left, 0, "the other had to wait for the end")
    await done
    await well()
    assert.strictEqual((await ids()).length, 401)
  })
})
