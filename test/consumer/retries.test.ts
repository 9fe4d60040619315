/** Retries whose turn comes when something else has happened in between. */
import { Effect } from "effect"
import { afterEach, beforeEach, expect, it } from "vitest"
import { type Consumer, consume, Inbox } from "../../src/consumer/index.ts"
import { type Bench, eventually, makeBench, soon } from "./harness.ts"

let bench: Bench
beforeEach(async () => {
  bench = await makeBench()
})
afterEach(() => bench.close())

/** Does something between the look at what is due and what comes of it, the first time that two are. */
const between = (consumer: Consumer, happens: () => Promise<void>): Consumer => {
  let happened = false
  return consumer.pipe(
    Effect.provideServiceEffect(
      Inbox,
      Effect.map(Inbox, (inbox) =>
        Inbox.of({
          ...inbox,
          due: (...args) =>
            inbox.due(...args).pipe(
              Effect.tap(({ parked }) => {
                if (happened || parked.length < 2) return Effect.void
                happened = true
                return Effect.promise(happens)
              }),
            ),
        }),
      ),
    ),
  )
}

it("are not forgotten when a pause begins between the look and their turn", async () => {
  let down = true
  const consumer = consume(
    "/queue/orders",
    { consumer: "billing", ...soon, pauseAfter: 4, maxAttempts: 100 },
    async () => {
      if (down) throw new Error("the bank is away")
    },
  )
  const paused = () => eventually(() => expect(bench.logs.map(({ text }) => text)).toContain("paused"))
  bench.start(
    between(consumer, async () => {
      await bench.send({ id: "third", key: "c" }, { id: "fourth", key: "d" })
      await paused()
    }),
  )
  await bench.send({ id: "first", key: "a" }, { id: "second", key: "b" })
  await paused()
  down = false
  await eventually(async () =>
    expect((await bench.rows()).filter(({ state }) => state === "handled")).toHaveLength(4),
  )
})
