import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Layer } from "effect"
import { layerMemory, MemoryBroker } from "../../src/broker/memory.ts"
import { channelOf, layerListen, layerLocal, Nudge, type Wakeup } from "../../src/relay/wakeup.ts"
import { layerPostgres } from "../../src/store/postgres.ts"
import { createDatabase } from "../support/postgres.ts"
import { eventually, startRelay, writeMessages } from "../support/relay.ts"

/** A relay that polls every 20 s when idle, and has been idle long enough to do so. */
const idleRelay = (wakeup: (url: string) => Layer.Layer<Wakeup>) =>
  Effect.gen(function* () {
    const { url, sql } = yield* Effect.acquireRelease(
      Effect.promise(() => createDatabase()),
      (database) => Effect.promise(() => database.drop()),
    )
    const context = yield* Layer.build(layerMemory())
    const layer = Layer.mergeAll(layerPostgres({ url }), Layer.succeedContext(context), wakeup(url))
    const { lines } = yield* startRelay(layer, { pollInterval: "20 seconds" })
    yield* Effect.promise(() =>
      eventually(() => assert.isTrue(lines.some((line) => line.text === "lanes taken"))),
    )
    // Pauses grow by a quarter from 2 ms: after six seconds the next is longer than this test waits.
    yield* Effect.sleep("6 seconds")
    const { accepted } = Context.get(context, MemoryBroker)
    const arrives = (count: number) =>
      Effect.promise(async () => {
        const began = performance.now()
        await eventually(() => assert.strictEqual(accepted.length, count), 1.5)
        return performance.now() - began
      })
    return { sql, arrives, lines }
  })

describe("wakeup", () => {
  it.live("a nudge in the relay's process makes it look at once, also when it comes before the commit", () =>
    Effect.gen(function* () {
      const nudge = Nudge.local()
      const { sql, arrives } = yield* idleRelay(() => layerLocal(nudge))
      yield* Effect.promise(async () => {
        await sql.begin(async (tx) => {
          await tx`SELECT outbox.emit('e', '/topic/t', '{}')`
          nudge.nudge()
          await new Promise((resolve) => setTimeout(resolve, 50))
        })
      })
      assert.isBelow(yield* arrives(1), 500)
    }),
  )

  it.live("a notification wakes a relay that listens", () =>
    Effect.gen(function* () {
      const { sql, arrives, lines } = yield* idleRelay((url) => layerListen({ url }))
      yield* Effect.promise(() => writeMessages(sql, { count: 1 }))
      Nudge.notify(sql).nudge()
      assert.isBelow(yield* arrives(1), 500)
      assert.isFalse(lines.some((line) => /LISTEN hears nothing/.test(line.text)))
    }),
  )

  it.live(
    "however fast nudges come, a process sends a notification every 5 ms at the most, and one after the last",
    () =>
      Effect.gen(function* () {
        const { sql } = yield* Effect.acquireRelease(
          Effect.promise(() => createDatabase()),
          (database) => Effect.promise(() => database.drop()),
        )
        yield* Effect.promise(async () => {
          const heard: number[] = []
          const { unlisten } = await sql.listen(channelOf("outbox"), () => void heard.push(performance.now()))
          const nudge = Nudge.notify(sql)
          nudge.nudge()
          nudge.nudge()
          await eventually(() => assert.lengthOf(heard, 2))
          const began = performance.now()
          for (let n = 0; n < 100; n++) {
            await sql`SELECT 1`
            nudge.nudge()
          }
          const last = performance.now()
          await eventually(() => assert.isAtLeast(heard.at(-1) ?? 0, last))
          await unlisten()
          // A timer of Node's may be early by almost a millisecond.
          assert.isAtMost(heard.length - 2, (last - began) / 4 + 2)
        })
      }),
  )
})
