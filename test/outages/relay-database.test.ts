/** The relay as a process while its database crashes and its backends are shot. */
import { assert, describe, inject, it } from "@effect/vitest"
import { Effect } from "effect"
import postgres from "postgres"
import { migrate } from "../../src/store/migrate.ts"
import { assertInOrder, firstArrivals } from "../support/arrivals.ts"
import { startPostgres } from "../support/embedded-postgres.ts"
import { eventually, writeMessages } from "../support/relay.ts"
import { spawnRelay } from "../support/relay-process.ts"
import { type RawFrame, rawStomp } from "../support/stomp-client.ts"

describe("the relay's database", () => {
  it("may crash, come back and shoot its backends: nothing lost, no attempts, order kept, flowing within 2 s", async () => {
    const server = await startPostgres()
    const { stompUrl } = inject("rabbitmq")
    const destination = `/topic/crash-${Math.random().toString(36).slice(2, 8)}`
    const raw = await rawStomp(stompUrl)
    const arrived: (RawFrame & { readonly destination: string })[] = []
    await raw.subscribe(destination, (frame) => arrived.push({ ...frame, destination }))
    const sql = postgres(server.url, { max: 2, onnotice: () => {}, backoff: () => 0.1, fetch_types: false })
    await Effect.runPromise(migrate(sql))
    await writeMessages(sql, { count: 40_000, keys: 100, destination })
    const relay = spawnRelay(server.url, stompUrl)
    const published = async () => {
      const [row] = await sql`SELECT count(*)::int AS n FROM outbox.messages WHERE published_at IS NOT NULL`
      return row?.["n"] as number
    }
    try {
      await eventually(() => assert.isAbove(arrived.length, 2000))
      await server.stop("immediate")
      assert.isBelow(firstArrivals(arrived).ids.size, 40_000)
      await new Promise((resolve) => setTimeout(resolve, 6000))
      await server.start()
      const back = performance.now()
      const before = await eventually(published)
      await eventually(async () => assert.isAbove(await published(), before), 10)
      const seconds = (performance.now() - back) / 1000
      await sql`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'drizzle-outbox'`
      await eventually(async () => assert.strictEqual(await published(), 40_000), 40)
      await eventually(() => assert.strictEqual(firstArrivals(arrived).ids.size, 40_000), 20)
      const [row] =
        await sql`SELECT max(attempts) AS attempts, count(dead_at)::int AS dead FROM outbox.messages`
      assert.deepStrictEqual({ ...row }, { attempts: 0, dead: 0 })
      assertInOrder(arrived)
      console.log(
        `flowing ${seconds.toFixed(2)} s after the database was back, ${firstArrivals(arrived).repeats} repeats`,
      )
      assert.isBelow(seconds, 2)
      assert.strictEqual(await relay.stop(), 0, relay.output())
    } finally {
      await relay.stop("SIGKILL")
      raw.close()
      await sql.end({ timeout: 1 })
      await server.remove()
    }
  })
})
