/** A connection that is reset in the middle of a transaction leaves nothing behind for the next one, on both drivers. */
import { assert, describe, it } from "@effect/vitest"
import { sql } from "drizzle-orm"
import { drizzle as nodePostgres } from "drizzle-orm/node-postgres"
import { drizzle as postgresJs } from "drizzle-orm/postgres-js"
import { Context, Effect, Layer } from "effect"
import postgres from "postgres"
import { afterEach } from "vitest"
import type { InboxScope } from "../../src/inbox/inbox.ts"
import { Inbox, layerPostgres } from "../../src/inbox/index.ts"
import type { AnyDatabase } from "../../src/outbox/transaction.ts"
import { makeCleanups } from "../support/consumer-lab.ts"
import { nodePostgresPool } from "../support/node-postgres.ts"
import { createDatabase } from "../support/postgres.ts"
import { startProxy } from "../support/proxy.ts"
import { eventually } from "../support/relay.ts"

const cleanups = makeCleanups()
afterEach(cleanups.run)

const drivers: Record<string, (url: string) => { db: AnyDatabase; close: () => Promise<void> }> = {
  "postgres.js": (url) => {
    const client = postgres(url, { max: 1, onnotice: () => {}, backoff: () => 0.05, fetch_types: false })
    return { db: postgresJs(client), close: () => client.end({ timeout: 1 }) }
  },
  "node-postgres": (url) => {
    const client = nodePostgresPool(url, 1)
    return { db: nodePostgres({ client }), close: () => client.end() }
  },
}
const scope: InboxScope = { consumer: "c", queue: "q", ordered: true }
const arrival = (id: string) => ({
  messageId: id,
  destination: "/queue/q",
  key: "k",
  headers: {},
  body: Buffer.from("{}"),
})

describe.each(Object.keys(drivers))("a connection of %s that is reset", (driver) => {
  it("in the middle of a statement: whatever the handler does then, the next claims go on", async () => {
    const database = await createDatabase()
    cleanups.add(database.drop)
    const proxy = await startProxy(Number(new URL(database.url).port))
    cleanups.add(proxy.close)
    const url = new URL(database.url)
    url.port = String(proxy.port)
    const connected = drivers[driver]?.(url.href)
    assert.isDefined(connected)
    cleanups.add(connected.close)
    const context = await Effect.runPromise(Effect.scoped(Layer.build(layerPostgres(connected.db))))
    const inbox = Context.get(context, Inbox)
    const claiming = (id: string, body: Parameters<typeof inbox.transact>[0]) =>
      inbox.transact(body, {
        statementMillis: 20_000,
        claim: { scope, arrivals: [arrival(id)], ordered: true },
      })
    for (let round = 0; round < 5; round++) {
      const lost = Effect.runPromise(
        Effect.flip(
          claiming(`lost-${round}`, async (tx) => {
            await tx.execute(sql`SELECT pg_sleep(20)`).catch(() => {})
            // It does not give up.
            await tx.execute(sql`SELECT 1`)
          }),
        ),
      )
      await eventually(async () => {
        const [row] = await database.sql`
          SELECT count(*)::int AS n FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(20)' AND state = 'active'`
        assert.isAtLeast(row?.["n"] as number, 1)
      })
      proxy.reset()
      assert.strictEqual((await lost)._tag, "StoreError")
      await database.sql`
        SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(20)'`
      const claims = await Effect.runPromise(
        claiming(`next-${round}`, async (_tx, found) => found).pipe(
          Effect.retry({ times: 5 }),
          Effect.timeout("3 seconds"),
        ),
      )
      assert.deepStrictEqual(claims, ["fresh"])
    }
  }, 60_000)
})
