/** Instances: taking turns, taking over, stopping, and what a handler that takes its process down leaves behind. */
import { Effect, Schedule } from "effect"
import { afterEach, beforeEach, describe, expect, it } from "vitest"
import { type Consumer, consume, consumeDelivery } from "../../src/consumer/index.ts"
import { Inbox } from "../../src/inbox/inbox.ts"
import { type Bench, eventually, makeBench, soon } from "./harness.ts"

let bench: Bench
beforeEach(async () => {
  bench = await makeBench()
})
afterEach(() => bench.close())

const pause = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds))
const many = (count: number) => Array.from({ length: count }, (_, n) => ({ id: `m${n}`, key: `k${n % 5}` }))

const counting = (seen: Record<string, string[]>, name: string, order: "key" | "none"): Consumer =>
  consume("/queue/orders", { consumer: "billing", ...soon, order, name, prefetch: 10 }, async ({ id }) => {
    seen[name] = [...(seen[name] ?? []), id]
    await pause(2)
  })

describe("two instances", () => {
  it("with order key: one works, the other stands by, and takes over where it stopped", async () => {
    const seen: Record<string, string[]> = {}
    const first = bench.start(counting(seen, "a", "key"))
    await eventually(() => expect(bench.logs.filter(({ text }) => text === "subscribed")).toHaveLength(1))
    bench.start(counting(seen, "b", "key"))
    await bench.send(...many(100))
    await eventually(() => expect(seen["a"]?.length).toBeGreaterThan(20))
    expect(seen["b"]).toBeUndefined()
    await first.stop()
    await eventually(() => expect(new Set([...(seen["a"] ?? []), ...(seen["b"] ?? [])]).size).toBe(100))
    expect([...(seen["a"] ?? []), ...(seen["b"] ?? [])]).toHaveLength(100)
    for (const key of [0, 1, 2, 3, 4]) {
      const order = [...(seen["a"] ?? []), ...(seen["b"] ?? [])]
        .map((id) => Number(id.slice(1)))
        .filter((n) => n % 5 === key)
      expect(order).toEqual(order.toSorted((x, y) => x - y))
    }
  })

  it("with order none: both work", async () => {
    const seen: Record<string, string[]> = {}
    bench.start(counting(seen, "a", "none"))
    bench.start(counting(seen, "b", "none"))
    await eventually(() => expect(bench.logs.filter(({ text }) => text === "subscribed")).toHaveLength(2))
    await bench.send(...many(200))
    await eventually(() => expect((seen["a"]?.length ?? 0) + (seen["b"]?.length ?? 0)).toBe(200))
    expect(seen["a"]?.length).toBeGreaterThan(60)
    expect(seen["b"]?.length).toBeGreaterThan(60)
  })
})

describe("a stop", () => {
  it("lets handlers under way finish, and leaves the rest to the broker", async () => {
    const done: string[] = []
    const options = { consumer: "billing", ...soon, parallel: 1 }
    const handler = async ({ id }: { readonly id: string }) => {
      await pause(100)
      done.push(id)
    }
    const running = bench.start(consume("/queue/orders", options, handler))
    await bench.send({ id: "a" }, { id: "b" })
    await pause(50)
    await running.stop()
    expect(done).toEqual(["a"])
    expect((await bench.rows()).map(({ state }) => state)).toEqual(["handled"])
    bench.start(consume("/queue/orders", options, handler))
    await eventually(() => expect(done).toEqual(["a", "b"]))
  })

  it("interrupts a handler that is over the deadline: its signal is aborted and nothing is recorded", async () => {
    let aborted = false
    let begun = false
    const running = bench.start(
      consume("/queue/orders", { consumer: "billing", ...soon, drainTimeout: "50 millis" }, ({ signal }) => {
        begun = true
        signal.addEventListener("abort", () => {
          aborted = true
        })
        return new Promise(() => {})
      }),
    )
    await bench.send({ id: "a" })
    await eventually(() => expect(begun).toBe(true))
    const began = performance.now()
    await running.stop()
    expect(performance.now() - began).toBeLessThan(2000)
    expect(aborted).toBe(true)
    expect(await bench.rows()).toEqual([])
  })

  it("ends a pause's waiting, too", async () => {
    const running = bench.start(
      consume("/queue/orders", { consumer: "billing", retry: soon.retry, pauseAfter: 1 }, () =>
        Promise.reject("no"),
      ),
    )
    await bench.send(...many(20))
    await eventually(() => expect(bench.logs.map(({ text }) => text)).toContain("paused"))
    const began = performance.now()
    await running.stop()
    expect(performance.now() - began).toBeLessThan(2000)
  })
})

it("an outage of the broker: resubscribes, drops stale acknowledgements, and has each effect once", async () => {
  const effects: string[] = []
  bench.start(
    consume("/queue/orders", { consumer: "billing", ...soon, parallel: 2 }, async ({ id }) => {
      await pause(3)
      effects.push(id)
    }),
  )
  await bench.send(...many(100))
  for (let cut = 0; cut < 5; cut++) {
    await pause(40)
    bench.broker.cut()
  }
  await eventually(async () =>
    expect((await bench.rows()).filter(({ state }) => state === "handled")).toHaveLength(100),
  )
  expect(effects).toHaveLength(100)
  for (const key of [0, 1, 2, 3, 4]) {
    const order = effects.map((id) => Number(id.slice(1))).filter((n) => n % 5 === key)
    expect(order).toEqual(order.toSorted((x, y) => x - y))
  }
})

it("of many instances one at a time retries what is parked, and its pauses are kept", async () => {
  const calls: number[] = []
  const retry = Schedule.spaced("1200 millis")
  for (let n = 0; n < 6; n++) {
    bench.start(
      consume("/queue/orders", { consumer: "billing", order: "none", retry }, async () => {
        calls.push(performance.now())
        await pause(150)
        throw new Error("still away")
      }),
    )
  }
  await bench.send({ id: "a" })
  await eventually(() => expect(calls).toHaveLength(2))
  await pause(600)
  expect(calls).toHaveLength(2)
  expect(await bench.rows()).toMatchObject([{ state: "parked", attempts: 2, started: 0 }])
})

it("of many instances one at a time has a delivery that its handler is slow to save", async () => {
  let calls = 0
  const retry = Schedule.spaced("100 millis")
  for (let n = 0; n < 5; n++) {
    bench.start(
      consumeDelivery("/queue/orders", { consumer: "billing", order: "none", retry }, async (delivery) => {
        if (++calls === 1) throw new Error("away")
        await pause(1500)
        return delivery.ack()
      }),
    )
  }
  await bench.send({ id: "a" })
  await eventually(async () => expect(await bench.rows()).toMatchObject([{ state: "handled" }]))
  expect(calls).toBe(2)
})

describe("a handler that takes its process down", () => {
  it("is not begun a fourth time", async () => {
    const done: string[] = []
    // Three processes that recorded the start and were never heard of again.
    const scope = { consumer: "billing", queue: "orders" }
    const arrival = {
      messageId: "crash",
      destination: "/queue/orders",
      key: "k",
      headers: {},
      body: new Uint8Array(),
    }
    const crashes = Effect.gen(function* () {
      const inbox = yield* Inbox
      for (const id of ["1", "2", "3"]) {
        yield* inbox.join({ ...scope, id, name: id }, 1, true)
        yield* inbox.start(scope, arrival, undefined)
      }
    })
    bench.start(
      Effect.andThen(
        crashes,
        consume("/queue/orders", { ...scope, ...soon }, async ({ id }) => {
          done.push(id)
        }),
      ) as unknown as Consumer,
    )
    await bench.send({ id: "crash", key: "k" }, { id: "after", key: "k" }, { id: "other" })
    await eventually(() => expect(done.toSorted()).toEqual(["after", "other"]))
    const row = (await bench.rows()).find(({ arrival }) => arrival.messageId === "crash")
    expect(row).toMatchObject({
      state: "dead",
      lastError: expect.stringMatching(/begun 3 times and never ended/),
    })
  })

  it("costs no start of those that wait for their turn beside it", async () => {
    const scope = { consumer: "billing", queue: "orders" }
    const ids = ["a", "b", "c", "d"]
    const crashes = Effect.gen(function* () {
      const inbox = yield* Inbox
      yield* inbox.join({ ...scope, id: "1", name: "1" }, 1, true)
      for (const messageId of [...ids, ...ids]) {
        const body = new Uint8Array()
        const arrival = { messageId, destination: "/queue/orders", key: messageId, headers: {}, body }
        yield* inbox.start(scope, arrival, undefined)
      }
    })
    const begun: string[] = []
    let end = () => {}
    bench.start(
      Effect.andThen(
        crashes,
        consume("/queue/orders", { ...scope, ...soon }, async ({ id }) => {
          begun.push(id)
          if (ids.includes(id) && begun.filter((other) => ids.includes(other)).length === 1)
            await new Promise<void>((resolve) => {
              end = resolve
            })
        }),
      ) as unknown as Consumer,
    )
    await bench.send(...ids.map((id) => ({ id, key: id })), { id: "other", key: "o" })
    await eventually(() => expect(begun).toContain("other"))
    await pause(100)
    // Were the process to go now, the start would be the running one's.
    const waiting = (await bench.rows()).filter(({ arrival }) => arrival.messageId !== "other")
    expect(waiting.map(({ started }) => started).toSorted()).toEqual([2, 2, 2, 3])
    expect(begun).toHaveLength(2)
    end()
    await eventually(() => expect(begun.toSorted()).toEqual([...ids, "other"]))
  })
})

it("fails at once over what waiting cannot change", async () => {
  const short = consume("/queue/orders", { consumer: "billing", retention: "1 minute" }, async () => {})
  expect(await bench.start(short).ended).toMatch(/`retention` \(1m\) is shorter than/)
})
