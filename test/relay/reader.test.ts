/** How often the relay looks. */
import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Layer } from "effect"
import { TestClock } from "effect/testing"
import { layerMemory as brokerMemory } from "../../src/broker/memory.ts"
import { runRelay } from "../../src/relay/relay.ts"
import { Wakeup } from "../../src/relay/wakeup.ts"
import { layerMemory } from "../../src/store/memory.ts"
import { OutboxStore } from "../../src/store/store.ts"

const READ_MILLIS = 2

/** A relay whose reads take 2 ms; `pass` lets milliseconds pass and gives when reads began meanwhile. */
const setup = Effect.gen(function* () {
  const store = Context.get(yield* Layer.build(layerMemory), OutboxStore)
  let wake = () => {}
  let elapsed = 0
  let reads: number[] = []
  const counted: OutboxStore["Service"] = {
    ...store,
    read: (pass) =>
      Effect.suspend(() => {
        reads.push(elapsed)
        return Effect.delay(store.read(pass), READ_MILLIS)
      }),
  }
  const wakeup = Wakeup.of({
    listen: (given) =>
      Effect.sync(() => {
        wake = given
      }),
  })
  yield* runRelay().pipe(
    Effect.provide(
      Layer.mergeAll(
        Layer.succeed(OutboxStore, counted),
        Layer.succeed(Wakeup, wakeup),
        brokerMemory({ pipelined: true }),
      ),
    ),
    Effect.forkScoped,
  )
  const pass = (millis: number, each: () => void = () => {}) =>
    Effect.gen(function* () {
      const from = elapsed
      reads = []
      for (let n = 0; n < millis; n++) {
        each()
        elapsed++
        yield* TestClock.adjust(1)
        yield* Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))
      }
      return reads.map((at) => at - from)
    })
  yield* pass(3000)
  return { pass, nudge: () => wake() }
})

describe("reading", () => {
  it.effect(
    "nudges that come faster than the relay can read leave it as long without a read as one takes",
    () =>
      Effect.gen(function* () {
        const { pass, nudge } = yield* setup
        const reads = yield* pass(200, nudge)
        assert.isAtLeast(reads.length, 40)
        assert.isAtMost(reads.length, 55)
      }),
  )

  it.effect(
    "a nudge is followed by reads ever further apart, at once where nothing was read just before",
    () =>
      Effect.gen(function* () {
        const { pass, nudge } = yield* setup
        assert.isAtMost((yield* pass(2000)).length, 6)
        nudge()
        const reads = yield* pass(1000)
        assert.isAtMost(reads[0]!, 1)
        const pauses = reads.slice(1).map((at, index) => at - reads[index]! - READ_MILLIS)
        assert.isAtLeast(reads.length, 12)
        assert.isAtMost(reads.length, 26)
        // What commits some time after its nudge is read after a quarter of that, and the read under way.
        for (const [index, pause] of pauses.entries())
          assert.isAtMost(pause, reads[index]! / 4 + READ_MILLIS + 2)
      }),
  )
})
