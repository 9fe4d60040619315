/** Transactions whose handle is taken back, on both drivers. */
import { assert, describe, it } from "@effect/vitest"
import { eq, sql } from "drizzle-orm"
import { drizzle as nodePostgres } from "drizzle-orm/node-postgres"
import { integer, pgTable } from "drizzle-orm/pg-core"
import { drizzle as postgresJs } from "drizzle-orm/postgres-js"
import { Context, Effect, Exit, Fiber, Layer } from "effect"
import postgres from "postgres"
import { afterAll, afterEach, beforeAll } from "vitest"
import { Inbox, layerPostgres, RolledBack, TransactionEnded } from "../../src/inbox/index.ts"
import { defineOutbox } from "../../src/index.ts"
import type { AnyTransaction } from "../../src/outbox/append.ts"
import type { AnyDatabase } from "../../src/outbox/transaction.ts"
import { StoreError } from "../../src/store/error.ts"
import { nodePostgresPool } from "../support/node-postgres.ts"
import { createDatabase, type TestDatabase } from "../support/postgres.ts"

const effects = pgTable("effects", { id: integer().primaryKey() })

const drivers: Record<string, (url: string) => { db: AnyDatabase; close: () => Promise<void> }> = {
  "postgres.js": (url) => {
    // One connection: whoever comes late would meet the next transaction on it.
    const client = postgres(url, { max: 1, onnotice: () => {} })
    return { db: postgresJs(client), close: () => client.end() }
  },
  "node-postgres": (url) => {
    const client = nodePostgresPool(url, 1)
    return { db: nodePostgres({ client }), close: () => client.end() }
  },
}

const sleep = (millis: number) => new Promise<void>((resolve) => setTimeout(resolve, millis))
const never = new Promise<never>(() => {})

describe.each(Object.keys(drivers))("Inbox.transact on %s", (driver) => {
  let database: TestDatabase
  let inbox: Inbox["Service"]
  let close = async () => {}
  beforeAll(async () => {
    database = await createDatabase()
    await database.sql`CREATE TABLE effects (id integer PRIMARY KEY)`
    await database.sql`CREATE TABLE strict (id integer REFERENCES effects DEFERRABLE INITIALLY DEFERRED)`
    const connected = drivers[driver]?.(database.url)
    assert.isDefined(connected)
    close = connected.close
    const context = await Effect.runPromise(Effect.scoped(Layer.build(layerPostgres(connected.db))))
    inbox = Context.get(context, Inbox)
  })
  afterEach(() => database.sql`TRUNCATE effects, strict, outbox.messages`)
  afterAll(async () => {
    await close()
    await database.drop()
  })

  const transact = <A>(body: (tx: AnyTransaction) => Promise<A>, statementMillis = 10_000) =>
    inbox.transact(body, { statementMillis })
  const run = <A>(body: (tx: AnyTransaction) => Promise<A>, statementMillis?: number) =>
    Effect.runPromise(transact(body, statementMillis))
  const failureOf = <A>(body: (tx: AnyTransaction) => Promise<A>, statementMillis?: number) =>
    Effect.runPromise(Effect.flip(transact(body, statementMillis)))
  const insert = (tx: AnyTransaction, id: number) => tx.insert(effects).values({ id })
  const ids = async () => (await database.sql`SELECT id FROM effects ORDER BY id`).map((row) => row["id"])
  /** Every connection of the driver is idle, and a transaction works. */
  const well = async () => {
    await run((tx) => insert(tx, 99))
    const [row] = await database.sql`
      SELECT count(*)::int AS open FROM pg_stat_activity
      WHERE datname = current_database() AND state LIKE 'idle in transaction%'`
    assert.strictEqual(row?.["open"], 0)
    assert.include(await ids(), 99)
    await database.sql`DELETE FROM effects WHERE id = 99`
  }
  const refuses = async (what: () => PromiseLike<unknown>) => {
    const error = await Promise.resolve()
      .then(what)
      .then(
        () => "went through",
        (error) => error,
      )
    assert.instanceOf(error, TransactionEnded)
  }

  it("commits what resolves and gives it", async () => {
    assert.strictEqual(
      await run(async (tx) => {
        await insert(tx, 1)
        await tx.transaction((nested) => insert(nested, 2))
        await tx
          .transaction(async (nested) => {
            await insert(nested, 3)
            throw new Error("only the savepoint")
          })
          .catch(() => {})
        return (await tx.select().from(effects)).length
      }),
      2,
    )
    assert.deepStrictEqual(await ids(), [1, 2])
    await well()
  })

  it("refuses whatever comes after the end, and it is not in the next transaction either", async () => {
    let late!: AnyTransaction
    let nested!: AnyTransaction
    let built!: { execute: () => Promise<unknown> }
    let prepared!: { execute: () => Promise<unknown> }
    const failed = await failureOf(async (tx) => {
      late = tx
      built = insert(tx, 10)
      prepared = insert(tx, 11).prepare("late")
      await tx.transaction(async (inner) => {
        nested = inner
      })
      await insert(tx, 1)
      throw "timed out"
    })
    assert.instanceOf(failed, RolledBack)
    assert.strictEqual(failed.cause, "timed out")
    await run(async (tx) => {
      await refuses(() => insert(late, 12))
      await refuses(() => late.execute(sql`INSERT INTO effects VALUES (13)`))
      await refuses(() => late.select().from(effects))
      await refuses(() => late.update(effects).set({ id: 14 }).where(eq(effects.id, 1)))
      await refuses(() => nested.insert(effects).values({ id: 15 }))
      await refuses(() => late.transaction((again) => insert(again, 16)))
      await refuses(() => built.execute())
      await refuses(() => prepared.execute())
      await insert(tx, 2)
    })
    await refuses(() => insert(late, 17))
    assert.deepStrictEqual(await ids(), [2])
    await well()
  })

  it("leaves the next transaction alone when a savepoint fails late", async () => {
    let go = () => {}
    const held = new Promise<void>((resolve) => {
      go = resolve
    })
    let savepoint: Promise<unknown> = Promise.resolve()
    await failureOf(async (tx) => {
      const opened = new Promise<void>((resolve) => {
        savepoint = tx.transaction(async (inner) => {
          await insert(inner, 20)
          resolve()
          await held
          throw new Error("late")
        })
        savepoint.catch(() => {})
      })
      await opened
      throw new Error("timed out")
    })
    await run(async (tx) => {
      await insert(tx, 1)
      await tx.transaction(async (inner) => {
        await insert(inner, 2)
        go()
        await sleep(50)
        await insert(inner, 3)
      })
    })
    await refuses(() => savepoint)
    assert.deepStrictEqual(await ids(), [1, 2, 3])
    await well()
  })

  it("has statements that nobody awaited in the transaction, or fails with them", async () => {
    await run(async (tx) => {
      void insert(tx, 1).execute()
      void insert(tx, 2).execute()
    })
    assert.deepStrictEqual(await ids(), [1, 2])
    const failed = await failureOf(async (tx) => {
      insert(tx, 3)
        .execute()
        .catch(() => {})
      insert(tx, 1)
        .execute()
        .catch(() => {})
    })
    assert.instanceOf(failed, RolledBack)
    assert.deepStrictEqual(await ids(), [1, 2])
    await well()
  })

  it("does not take a caught failure for a commit, and names it", async () => {
    const failed = await failureOf(async (tx) => {
      await insert(tx, 1)
      await tx.execute(sql`SELECT 1 / 0`).catch(() => {})
    })
    assert.instanceOf(failed, RolledBack)
    assert.match(String((failed.cause as Error).cause ?? failed.cause), /division by zero/)
    assert.deepStrictEqual(await ids(), [])
    await well()
  })

  it("fails with the commit that a deferred constraint refuses", async () => {
    const failed = await failureOf((tx) => tx.execute(sql`INSERT INTO strict VALUES (1)`))
    assert.instanceOf(failed, RolledBack)
    assert.match(String((failed.cause as Error).cause ?? failed.cause), /foreign key/)
    await well()
  })

  it("ends a statement that takes too long, from the claim on", async () => {
    const claim = (tx: AnyTransaction, messageId: string) =>
      inbox.claim(
        tx,
        { consumer: "c", queue: "q" },
        [{ messageId, destination: "/queue/q", key: "k", headers: {}, body: new Uint8Array() }],
        true,
      )
    const failed = await failureOf(async (tx) => {
      await claim(tx, "slow")
      await tx.execute(sql`SELECT pg_sleep(5)`)
    }, 100)
    assert.instanceOf(failed, RolledBack)
    assert.match(String((failed.cause as Error).cause ?? failed.cause), /statement timeout/)
    const settings = await run(async (tx) => {
      await claim(tx, "quick")
      const rows = await tx.execute(
        sql`SELECT current_setting('statement_timeout') || current_setting('idle_in_transaction_session_timeout') AS all`,
      )
      return JSON.stringify(rows)
    })
    assert.match(settings, /10s15s/)
    await well()
  })

  it("opens with a claim: recorded with the body or not at all, waited for, and no connection is lost over one that fails", async () => {
    const scope = { consumer: "opening", queue: "q" }
    const arrival = (messageId: string) => ({
      messageId,
      destination: "/queue/q",
      key: "k",
      headers: {},
      body: new Uint8Array(),
    })
    const claiming = <A>(
      id: string,
      body: (tx: AnyTransaction, claims: ReadonlyArray<string>) => Promise<A>,
    ) =>
      inbox.transact(body, {
        statementMillis: 10_000,
        claim: { scope, arrivals: [arrival(id)], ordered: true },
      })
    const failed = await Effect.runPromise(Effect.flip(claiming("a", () => Promise.reject(new Error("no")))))
    assert.instanceOf(failed, RolledBack)
    assert.deepStrictEqual(await Effect.runPromise(claiming("a", async (_, claims) => claims)), ["fresh"])
    assert.deepStrictEqual(await Effect.runPromise(claiming("a", async (_, claims) => claims)), ["settled"])

    // Somebody else has the key; whoever waits for it is cancelled.
    const other = postgres(database.url, { max: 1, onnotice: () => {} })
    await other.begin(async (holder) => {
      await holder`SELECT pg_advisory_xact_lock(outbox.inbox_lock_of('opening', 'q', 'k'))`
      const waiting = Effect.runPromise(Effect.flip(claiming("b", async () => {})))
      for (let cancelled = 0; cancelled === 0; await sleep(20)) {
        const rows = await database.sql`
          SELECT pg_cancel_backend(pid) FROM pg_stat_activity
          WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%inbox_claim%'`
        cancelled = rows.length
      }
      assert.match((await waiting).message || String((await waiting).cause), /cancel|Failed query/)
    })
    await other.end()
    assert.deepStrictEqual(await Effect.runPromise(claiming("b", async (_, claims) => claims)), ["fresh"])
    await well()
  })

  for (const when of ["in a statement", "between statements", "and nobody notices"])
    it(`says that the database is away when the connection dies ${when}`, async () => {
      const failed = await failureOf(async (tx) => {
        await insert(tx, 1)
        const rows = await tx.execute(sql`SELECT pg_backend_pid() AS pid`)
        const [{ pid }] =
          (rows as { rows?: [{ pid: number }] }).rows ?? (rows as unknown as [{ pid: number }])
        const kill = async () => {
          await database.sql`SELECT pg_terminate_backend(${pid})`
        }
        if (when === "in a statement") {
          setTimeout(kill, 100)
          await tx.execute(sql`SELECT pg_sleep(5)`)
        } else {
          await kill()
          await sleep(100)
          if (when === "between statements") await insert(tx, 2)
        }
      })
      assert.instanceOf(failed, StoreError)
      assert.strictEqual(failed.reason, "unavailable")
      assert.notInclude(failed.message, "Failed query")
      // postgres.js rejects the first statement on the new connection with the old one's last words.
      await run((tx) => tx.execute(sql`SELECT 1`)).catch((error) =>
        assert.strictEqual(error.reason, "unavailable"),
      )
      await well()
      assert.deepStrictEqual(await ids(), [])
    })

  it("keeps the handler's own trouble with a network apart from the database's", async () => {
    const refused = Object.assign(new Error("connect ECONNREFUSED"), { code: "ECONNREFUSED" })
    const failed = await failureOf(async (tx) => {
      await insert(tx, 1)
      throw refused
    })
    assert.instanceOf(failed, RolledBack)
    assert.strictEqual(failed.cause, refused)
    await well()
  })

  it("rolls back before an interruption is seen, whatever the handler does then", async () => {
    let late!: AnyTransaction
    const fiber = Effect.runFork(
      transact(async (tx) => {
        late = tx
        await insert(tx, 1)
        await never
      }),
    )
    await sleep(100)
    await Effect.runPromise(Fiber.interrupt(fiber))
    assert.isTrue(Exit.hasInterrupts(await Effect.runPromise(Fiber.await(fiber))))
    await refuses(() => insert(late, 2))
    assert.deepStrictEqual(await ids(), [])
    await well()
  })

  it("is interrupted at once while it waits for a connection", async () => {
    const first = Effect.runFork(transact(() => never))
    await sleep(50)
    const second = Effect.runFork(transact((tx) => insert(tx, 2)))
    await sleep(50)
    await Effect.runPromise(Effect.timeout(Fiber.interrupt(second), 1000))
    await Effect.runPromise(Fiber.interrupt(first))
    await well()
    assert.deepStrictEqual(await ids(), [])
  })

  it("says that the database is away when it cannot begin", async () => {
    const connected = drivers[driver]?.("postgres://nobody:secret@127.0.0.1:1/none")
    assert.isDefined(connected)
    const context = await Effect.runPromise(Effect.scoped(Layer.build(layerPostgres(connected.db))))
    const failed = await Effect.runPromise(
      Effect.flip(Context.get(context, Inbox).transact(() => never, { statementMillis: 1000 })),
    )
    assert.instanceOf(failed, StoreError)
    assert.strictEqual(failed.reason, "unavailable")
    await connected.close()
  })

  it("nudges after the commit, and not after a rollback", async () => {
    let nudges = 0
    const { emit } = defineOutbox(
      { note: { destination: "/n", serializer: (n: { text: string }) => n } },
      { nudge: { nudge: () => void nudges++ } },
    )
    await failureOf(async (tx) => {
      await emit(tx, "note", { text: "a" })
      await sleep(10)
      throw new Error("no")
    })
    assert.strictEqual(nudges, 0)
    await run(async (tx) => {
      await emit(tx, "note", { text: "a" })
      await tx.transaction((inner) => emit(inner, "note", { text: "b" }))
      await sleep(10)
      assert.strictEqual(nudges, 0)
    })
    await sleep(10)
    assert.strictEqual(nudges, 1)
  })
})
