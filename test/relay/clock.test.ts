import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Layer } from "effect"
import { vi } from "vitest"
import { Broker } from "../../src/broker/broker.ts"
import { layerMemory as brokerMemory } from "../../src/broker/memory.ts"
import { makeState, type RelaySettings } from "../../src/relay/state.ts"
import { layerMemory } from "../../src/store/memory.ts"
import { OutboxStore } from "../../src/store/store.ts"

describe("a relay's clock", () => {
  it.live("does not move with the wall's, or a lease could seem to last when it is over", () =>
    Effect.gen(function* () {
      const store = Context.get(yield* Layer.build(layerMemory), OutboxStore)
      const broker = Context.get(yield* Layer.build(brokerMemory()), Broker)
      const settings = { window: 1, windowBytes: 1 } as RelaySettings
      const { now } = yield* makeState(settings, store, broker, 0)
      const before = now()
      const wall = Date.now() - 3_600_000
      const spy = vi.spyOn(Date, "now").mockImplementation(() => wall)
      const after = now()
      spy.mockRestore()
      assert.isAtLeast(after, before)
      assert.isBelow(after - before, 60_000)
    }),
  )
})
