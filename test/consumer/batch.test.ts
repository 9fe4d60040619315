/** Handlers of several messages: one transaction for all, one by one where that fails. */
import { afterEach, beforeEach, expect, it, vi } from "vitest"
import { makeBatches } from "../../src/consumer/batches.ts"
import { consumeBatch, Reject } from "../../src/consumer/index.ts"
import { type Bench, eventually, makeBench, soon } from "./harness.ts"

let bench: Bench
beforeEach(async () => {
  bench = await makeBench()
})
afterEach(() => bench.close())

const settings = { consumer: "billing", ...soon }
const many = (count: number) =>
  Array.from({ length: count }, (_, n) => ({ id: `m${n}`, key: `k${n % 3}`, body: n }))
const states = async () => (await bench.rows()).map(({ arrival, state }) => `${arrival.messageId} ${state}`)

it("gathers up to the size, keeps the order of arrival, and hands the rest on after a moment", async () => {
  const sizes: number[] = []
  const bodies: number[] = []
  bench.start(
    consumeBatch<number>(
      "/queue/orders",
      { ...settings, batch: { size: 10, within: "50 millis" } },
      async (messages) => {
        sizes.push(messages.length)
        bodies.push(...messages.map(({ body }) => body))
      },
    ),
  )
  await bench.send(...many(25))
  await eventually(() => expect(bodies).toHaveLength(25))
  expect(sizes).toEqual([10, 10, 5])
  expect(bodies).toEqual(bodies.toSorted((a, b) => a - b))
})

it("one bad message dies alone, and its neighbours are handled once", async () => {
  const handled: number[] = []
  bench.start(
    consumeBatch<number>("/queue/orders", { ...settings, batch: { size: 5 } }, async (messages) => {
      if (messages.some(({ body }) => body === 2)) throw new Reject({ reason: "two is bad" })
      handled.push(...messages.map(({ body }) => body))
    }),
  )
  await bench.send(...many(5))
  await eventually(() => expect(handled).toEqual([0, 1, 3, 4]))
  expect((await states()).filter((state) => !state.endsWith("handled"))).toEqual(["m2 dead"])
})

it("a failing message is parked, the later ones of its key behind it, and both come back in order", async () => {
  const handled: number[] = []
  let failures = 2
  bench.start(
    consumeBatch<number>("/queue/orders", { ...settings, batch: { size: 6 } }, async (messages) => {
      if (messages.some(({ body }) => body === 1) && failures-- > 0) throw new Error("not yet")
      handled.push(...messages.map(({ body }) => body))
    }),
  )
  await bench.send(...many(6))
  await eventually(() => expect(handled).toHaveLength(6))
  expect(handled).toEqual([0, 2, 3, 5, 1, 4])
})

it("repeats within and across batches are left out", async () => {
  const handled: string[] = []
  bench.start(
    consumeBatch(
      "/queue/orders",
      { ...settings, batch: { size: 4, within: "10 millis" } },
      async (messages) => {
        handled.push(...messages.map(({ id }) => id))
      },
    ),
  )
  await bench.send({ id: "a" }, { id: "a" }, { id: "b" }, { id: "b" }, { id: "a" }, { id: "c" })
  await eventually(() => expect(handled).toContain("c"))
  expect(handled).toEqual(["a", "b", "c"])
})

it("what is gathered keeps no process alive", () => {
  const timers = vi.spyOn(globalThis, "setTimeout")
  try {
    makeBatches({ size: 10, millis: 60_000 }, () => {}).add({} as never)
    expect(timers.mock.results.map(({ value }) => (value as NodeJS.Timeout).hasRef())).toEqual([false])
  } finally {
    timers.mockRestore()
  }
})
