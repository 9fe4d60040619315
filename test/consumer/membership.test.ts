/** An instance's hold on the subscription, where the broker elects nobody; and its connections. */
import { Context, Deferred, Effect, Fiber, Layer, Logger } from "effect"
import { afterEach, beforeEach, expect, it } from "vitest"
import { Broker } from "../../src/broker/broker.ts"
import { type Consumer, consume } from "../../src/consumer/index.ts"
import { giveHold, membershipLoop, takeHold } from "../../src/consumer/membership.ts"
import type { ConsumerState } from "../../src/consumer/state.ts"
import { Inbox, layerMemory } from "../../src/inbox/index.ts"
import { makeSignal } from "../../src/relay/signal.ts"
import { type Bench, makeBench, soon } from "./harness.ts"

let bench: Bench
beforeEach(async () => {
  bench = await makeBench()
})
afterEach(() => bench.close())

it("a renewal that was under way when the subscription was given up does not take it again", () =>
  Effect.gen(function* () {
    const inbox = Context.get(yield* Layer.build(layerMemory), Inbox)
    const member = { id: "a", name: "a", consumer: "billing", queue: "orders" }
    const asked = yield* Deferred.make<void>()
    const goOn = yield* Deferred.make<void>()
    const state = {
      inbox: {
        ...inbox,
        renew: (...renewal: Parameters<typeof inbox.renew>) =>
          Deferred.succeed(asked, undefined).pipe(
            Effect.andThen(Deferred.await(goOn)),
            Effect.andThen(inbox.renew(...renewal)),
          ),
      },
      member,
      settings: { onTick: Effect.void },
      pause: { paused: () => undefined },
      lanes: { running: () => 0 },
      hold: { raise: () => {} },
      ask: { raise: () => {}, lower: () => {}, await: Effect.never },
      now: () => performance.now(),
      wanted: true,
      heldUntil: Number.NEGATIVE_INFINITY,
      released: { afterMillis: 0 },
      leaseMillis: 60_000,
    } as unknown as ConsumerState
    const loop = yield* Effect.forkChild(membershipLoop(state))
    yield* Deferred.await(asked)
    // Its connection ends, and the broker may take it for alive a while.
    yield* giveHold(state, 30_000)
    state.wanted = true
    yield* Deferred.succeed(goOn, undefined)
    yield* Effect.sleep("700 millis")
    expect(state.heldUntil).toBe(Number.NEGATIVE_INFINITY)
    yield* Fiber.interrupt(loop)
  }).pipe(Effect.scoped, Effect.runPromise))

it("standing by is said when another instance holds the subscription, not when an answer is of before it was wanted", async () => {
  const said = async (taken: boolean) => {
    const logged: unknown[] = []
    await Effect.gen(function* () {
      const hold = yield* makeSignal
      const state = {
        hold,
        ask: yield* makeSignal,
        now: () => performance.now(),
        wanted: false,
        heldUntil: Number.NEGATIVE_INFINITY,
      } as unknown as ConsumerState
      const holding = yield* Effect.forkChild(takeHold(state))
      yield* Effect.sleep("10 millis")
      // The answer to what was asked before.
      hold.raise()
      yield* Effect.sleep("10 millis")
      if (taken) hold.raise()
      yield* Effect.sleep("10 millis")
      state.heldUntil = performance.now() + 10_000
      hold.raise()
      yield* Fiber.join(holding)
    }).pipe(
      Effect.provide(Logger.layer([Logger.make(({ message }) => void logged.push(message))])),
      Effect.runPromise,
    )
    return logged.length
  }
  expect(await said(false)).toBe(0)
  expect(await said(true)).toBe(1)
})

it("connections that end at once are not made without a pause", async () => {
  let made = 0
  const consumer = consume("/queue/orders", { consumer: "billing", ...soon }, async () => {})
  const short = Effect.updateService(consumer, Broker, (broker) => ({
    connect: (subscription) =>
      Effect.tap(broker.connect(subscription), ({ destroy }) =>
        Effect.sync(() => {
          made++
          setTimeout(destroy, 2)
        }),
      ),
  }))
  bench.start(short as Consumer)
  await new Promise((resolve) => setTimeout(resolve, 1500))
  expect(made).toBeGreaterThan(2)
  expect(made).toBeLessThan(10)
})
