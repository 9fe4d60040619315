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

/** What is due is read from a database that takes its time. */
const slowly = (consumer: Consumer): Consumer =>
  consumer.pipe(
    Effect.provideServiceEffect(
      Inbox,
      Effect.map(Inbox, (inbox) =>
        Inbox.of({
          ...inbox,
          due: (...args) => inbox.due(...args).pipe(Effect.tap(() => Effect.sleep("150 millis"))),
        }),
      ),
    ),
  )

it("are not forgotten when a pause begins between the look and their turn", async () => {
  let down = true
  bench.start(
    slowly(
      consume(
        "/queue/orders",
        { consumer: "billing", ...soon, pauseAfter: 3, maxAttempts: 100 },
        async () => {
          if (down) throw new Error("the bank is away")
        },
      ),
    ),
  )
  await bench.send({ id: "first", key: "a" })
  await eventually(async () => expect(await bench.rows()).toMatchObject([{ state: "parked" }]))
  await new Promise((resolve) => setTimeout(resolve, 60))
  await bench.send({ id: "second", key: "b" }, { id: "third", key: "c" })
  await eventually(() => expect(bench.logs.map(({ text }) => text)).toContain("paused"))
  await new Promise((resolve) => setTimeout(resolve, 400))
  down = false
  await eventually(async () =>
    expect((await bench.rows()).filter(({ state }) => state === "handled")).toHaveLength(3),
  )
})
