/** When everything fails nothing more is taken, nothing is used up, and the first success ends it. */
import { Schedule } from "effect"
import { afterEach, beforeEach, expect, it } from "vitest"
import { consume } from "../../src/consumer/index.ts"
import { type Bench, eventually, makeBench, soon } from "./harness.ts"

let bench: Bench
beforeEach(async () => {
  bench = await makeBench()
})
afterEach(() => bench.close())

const texts = () => bench.logs.map(({ text }) => text)
const pause = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds))

it("pauses after so many different keys, counts nothing meanwhile, and goes on with the first success", async () => {
  let down = true
  const calls: string[] = []
  bench.start(
    consume(
      "/queue/orders",
      { consumer: "billing", ...soon, pauseAfter: 3, maxAttempts: 5, parallel: 2 },
      async ({ id }) => {
        calls.push(id)
        if (down) throw new Error("the bank is away")
      },
    ),
  )
  const ids = Array.from({ length: 30 }, (_, n) => `m${n}`)
  await bench.send(...ids.map((id) => ({ id, key: id })))
  await eventually(() => expect(texts()).toContain("paused"))
  // Long enough for many more tries than the maximum, one by one.
  await pause(500)
  const rows = await bench.rows()
  expect(rows.every(({ state, attempts }) => state === "parked" && attempts <= 2)).toBe(true)
  // A probe in two takes a delivery from the broker; the others stay there.
  expect(rows.length).toBeLessThan(ids.length)
  down = false
  await eventually(async () =>
    expect((await bench.rows()).filter(({ state }) => state === "handled")).toHaveLength(30),
  )
  expect(texts()).toContain("resumed")
})

it("does not pause over one key that fails for ever", async () => {
  const done: string[] = []
  bench.start(
    consume(
      "/queue/orders",
      { consumer: "billing", ...soon, pauseAfter: 2, maxAttempts: 1000 },
      async ({ id, key }) => {
        if (key === "bad") throw new Error("never")
        done.push(id)
      },
    ),
  )
  await bench.send({ key: "bad" }, ...Array.from({ length: 50 }, (_, n) => ({ id: `m${n}`, key: "good" })), {
    key: "bad",
  })
  await eventually(() => expect(done).toHaveLength(50))
  await pause(100)
  expect(texts()).not.toContain("paused")
})

it("is ended by what is new, too: poison alone cannot keep it paused", async () => {
  const done: string[] = []
  bench.start(
    consume(
      "/queue/orders",
      {
        consumer: "billing",
        retry: Schedule.spaced("10 millis"),
        pauseAfter: 3,
        maxAttempts: 3,
        parallel: 1,
      },
      async ({ id }) => {
        if (id.startsWith("poison")) throw new Error("never")
        done.push(id)
      },
    ),
  )
  await bench.send(...["poison1", "poison2", "poison3", "poison4"].map((id) => ({ id, key: id })), {
    id: "good",
    key: "good",
  })
  await eventually(() => expect(done).toEqual(["good"]))
  // As long as anything succeeds, what always fails is counted.
  await eventually(async () => {
    await bench.send({ key: "good" })
    expect((await bench.rows()).filter(({ state }) => state === "dead")).toHaveLength(4)
  })
})
