/** What each end of a handler means for its message, and that other keys never wait for it. */
import { Duration, Effect, Schedule } from "effect"
import { afterEach, beforeEach, describe, expect, it } from "vitest"
import { failureOf } from "../../src/consumer/handler.ts"
import { consume, Reject, Snooze } from "../../src/consumer/index.ts"
import { type Bench, eventually, makeBench, soon } from "./harness.ts"

let bench: Bench
beforeEach(async () => {
  bench = await makeBench()
})
afterEach(() => bench.close())

const settings = { consumer: "billing", ...soon }

const stateOf = async (id: string) => (await bench.rows()).find(({ arrival }) => arrival.messageId === id)

describe("success", () => {
  it("is recorded once, and a repeat is acknowledged without the handler", async () => {
    const seen: string[] = []
    bench.start(
      consume("/queue/orders", settings, async ({ id }) => {
        seen.push(id)
      }),
    )
    await bench.send({ id: "a" }, { id: "a" }, { id: "b" })
    await eventually(async () =>
      expect((await bench.rows()).map(({ state }) => state)).toEqual(["handled", "handled"]),
    )
    await bench.send({ id: "a" })
    await bench.send({ id: "c" })
    await eventually(() => expect(seen).toEqual(["a", "b", "c"]))
  })

  it("gives the handler all that it is promised", async () => {
    let got: Record<string, unknown> = {}
    bench.start(
      consume<{ n: number }>("/queue/orders", settings, async ({ tx, signal, ...message }) => {
        got = { ...message, aborted: signal.aborted, tx: typeof tx }
      }),
    )
    const headers = {
      "outbox-event": "orders",
      "outbox-event-id": "e",
      "outbox-operation": "insert",
      color: "red",
    }
    await bench.send({
      id: "a",
      key: "k",
      body: { n: 1 },
      headers: { ...headers, "outbox-correlation-id": "c" },
    })
    await eventually(() =>
      expect(got).toMatchObject({
        body: { n: 1 },
        id: "a",
        event: "orders",
        eventId: "e",
        operation: "insert",
        destination: "/queue/orders",
        key: "k",
        attempt: 1,
        aborted: false,
        cause: { correlationId: "c", causationId: "a", traceparent: undefined },
        headers: { color: "red" },
      }),
    )
  })

  it("runs an Effect with what its context provides", async () => {
    const seen: number[] = []
    bench.start(
      consume<{ n: number }>("/queue/orders", settings, ({ body }) =>
        Effect.sync(() => {
          seen.push(body.n)
        }),
      ),
    )
    await bench.send({ body: { n: 4 } })
    await eventually(() => expect(seen).toEqual([4]))
  })
})

describe("failure", () => {
  it.each([
    ["an Error", () => Promise.reject(new Error("no stock")), "no stock"],
    [
      "a synchronous Error",
      () => {
        throw new Error("no stock")
      },
      "no stock",
    ],
    ["a string", () => Promise.reject("no stock"), "no stock"],
    ["undefined", () => Promise.reject(undefined), "undefined"],
    ["null", () => Promise.reject(null), "null"],
    ["an object", () => Promise.reject({ stock: 0 }), '{"stock":0}'],
    ["a failed Effect", () => Effect.fail(new Error("no stock")), "no stock"],
    ["a defect", () => Effect.die(new Error("no stock")), "no stock"],
  ])("of %s is parked with its words, and dead at the maximum", async (_, fail, words) => {
    bench.start(consume("/queue/orders", { ...settings, maxAttempts: 3 }, fail as () => Promise<void>))
    await bench.send({ id: "a", key: "k" })
    await eventually(async () =>
      expect(await stateOf("a")).toMatchObject({ state: "dead", attempts: 3, lastError: words }),
    )
  })

  it("three times, then success: four attempts, in the order of its key, while other keys go on", async () => {
    const done: string[] = []
    let failures = 0
    bench.start(
      consume(
        "/queue/orders",
        { ...settings, retry: Schedule.spaced("60 millis") },
        async ({ id, attempt }) => {
          if (id === "a1" && attempt <= 3) {
            failures++
            throw new Error("not yet")
          }
          done.push(id)
        },
      ),
    )
    await bench.send(
      { id: "a1", key: "a" },
      { id: "a2", key: "a" },
      { id: "b1", key: "b" },
      { id: "a3", key: "a" },
    )
    await eventually(() => expect(done).toHaveLength(4))
    expect(done[0]).toBe("b1")
    expect(done.slice(1)).toEqual(["a1", "a2", "a3"])
    expect(failures).toBe(3)
    await eventually(async () =>
      expect(new Set((await bench.rows()).map(({ state }) => state))).toEqual(new Set(["handled"])),
    )
  })

  it("for good lets the key go on after the death", async () => {
    const done: string[] = []
    bench.start(
      consume("/queue/orders", { ...settings, maxAttempts: 2 }, async ({ id }) => {
        if (id === "a1") throw new Error("never")
        done.push(id)
      }),
    )
    await bench.send({ id: "a1", key: "a" }, { id: "a2", key: "a" })
    await eventually(() => expect(done).toEqual(["a2"]))
    expect(await stateOf("a1")).toMatchObject({ state: "dead", lastError: "never" })
  })

  it("of a handler over its time that asks for its signal only then: it is aborted", async () => {
    let late: boolean | undefined
    bench.start(
      consume("/queue/orders", { ...settings, timeout: "20 millis", maxAttempts: 1 }, async (handling) => {
        await new Promise((resolve) => setTimeout(resolve, 100))
        late = handling.signal.aborted
      }),
    )
    await bench.send({ id: "m1" })
    await eventually(() => expect(late).toBe(true))
  })

  it("of a handler over its time: parked, its signal aborted, others go on meanwhile", async () => {
    const done: string[] = []
    let aborted = false
    bench.start(
      consume("/queue/orders", { ...settings, timeout: "50 millis", maxAttempts: 2 }, ({ id, signal }) => {
        if (id !== "stuck") {
          done.push(id)
          return
        }
        signal.addEventListener("abort", () => {
          aborted = true
        })
        return new Promise(() => {})
      }),
    )
    await bench.send({ id: "stuck", key: "a" }, { id: "b", key: "b" })
    await eventually(() => expect(done).toEqual(["b"]))
    await eventually(async () =>
      expect(await stateOf("stuck")).toMatchObject({
        state: "dead",
        lastError: "the handler took longer than 50ms",
      }),
    )
    expect(aborted).toBe(true)
  })
})

describe("a verdict of the handler's own", () => {
  it("is text, whatever JavaScript gives for it", () => {
    const odd = (reason: unknown) => failureOf(new Reject({ reason: reason as string }))
    expect(odd(new Error("no stock"))).toEqual({ _tag: "Rejected", words: "no stock" })
    expect(odd(undefined)).toEqual({ _tag: "Rejected", words: "rejected without a reason" })
    expect(failureOf(Object.assign(new Error(), { message: { code: 7 } }))).toMatchObject({
      _tag: "Failed",
      words: '{"code":7}',
      stack: expect.stringMatching(/^ +at .*outcome\.test\.ts/),
    })
    const circular: Record<string, unknown> = Object.assign(Object.create(null), {})
    circular["self"] = circular
    expect(failureOf(circular)).toEqual({ _tag: "Failed", words: "[object Object]" })
  })

  it("Snooze for longer than a time in the database can be is for ten years", () => {
    const millis = 3650 * 86_400_000
    expect(failureOf(new Snooze({ duration: Duration.infinity }))).toEqual({ _tag: "Snoozed", millis })
  })

  it("Reject is death at once, with its reason", async () => {
    bench.start(
      consume("/queue/orders", settings, () => Promise.reject(new Reject({ reason: "unknown customer" }))),
    )
    await bench.send({ id: "a" })
    await eventually(async () =>
      expect(await stateOf("a")).toMatchObject({ state: "dead", attempts: 1, lastError: "unknown customer" }),
    )
  })

  it("Snooze comes back uncounted", async () => {
    const attempts: number[] = []
    bench.start(
      consume("/queue/orders", { ...settings, maxAttempts: 2 }, ({ attempt }) =>
        Effect.gen(function* () {
          attempts.push(attempt)
          if (attempts.length < 5) return yield* new Snooze({ duration: "10 millis" })
        }),
      ),
    )
    await bench.send({ id: "a", key: "k" })
    await eventually(() => expect(attempts).toEqual([1, 1, 1, 1, 1]))
    await eventually(async () => expect(await stateOf("a")).toMatchObject({ state: "handled" }))
  })
})

describe("what cannot be handled", () => {
  it("is dead with its reason: a body that is no JSON, one that is no UTF-8, a message without an id", async () => {
    bench.start(consume("/queue/orders", settings, async () => {}))
    await bench.send(
      { id: "json", body: "{" },
      { id: "utf8", body: new Uint8Array([0xff, 0xfe]) },
      { id: "", body: 1 },
    )
    await eventually(async () => {
      const found = await bench.rows()
      const rows = ["json", "utf8", "sha256:"].map((id) =>
        found.find(({ arrival }) => arrival.messageId.startsWith(id)),
      )
      expect(rows.map((row) => row?.state)).toEqual(["dead", "dead", "dead"])
      expect(rows.map((row) => row?.lastError)).toEqual([
        expect.stringMatching(/^the body is no JSON/),
        "the body is no UTF-8",
        expect.stringMatching(/^it carries no id/),
      ])
      expect(rows[2]?.arrival.messageId).toMatch(/^sha256:[0-9a-f]{64}$/)
    })
  })

  it("is copied to a destination with its id, its reason and its attempts", async () => {
    bench.start(
      consume("/queue/orders", { ...settings, maxAttempts: 2, deadLetter: true }, () =>
        Promise.reject(new Error("no\nstock")),
      ),
    )
    const acted = { expires: "1", expiration: "1000", "user-id": "alice", AMQ_SCHEDULED_DELAY: "1" }
    await bench.send({ id: "a", key: "k", headers: { color: "red", ...acted } })
    await eventually(async () => {
      const [copy, ...rest] = await bench.emitted()
      expect(rest).toEqual([])
      expect(copy).toMatchObject({ destination: "/queue/DLQ.orders", key: "k" })
      expect(JSON.parse(copy?.headers ?? "{}")).toMatchObject({
        "outbox-message-id": "a",
        "outbox-dead-reason": "no stock",
        "outbox-dead-attempts": "2",
        "outbox-dead-consumer": "billing",
        color: "red",
      })
      const names = Object.keys(JSON.parse(copy?.headers ?? "{}"))
      expect(names.filter((name) => name in acted)).toEqual([])
    })
  })
})
