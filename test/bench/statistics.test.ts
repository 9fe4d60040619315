import { assert, describe, it } from "@effect/vitest"
import { openLoop, poisson } from "../../bench/support/clock.ts"
import { interleave, ratioOf } from "../../bench/support/compare.ts"
import { median, medianInterval, percentile } from "../../bench/support/statistics.ts"

const upTo = (count: number) => Array.from({ length: count }, (_, index) => index + 1)

describe("what a bench says of its values", () => {
  it("encloses the median with the ranks that tables of the sign test give for 95 %", () => {
    for (const [count, low, high] of [
      [5, 1, 5],
      [6, 1, 6],
      [8, 1, 8],
      [9, 2, 8],
      [10, 2, 9],
      [15, 4, 12],
      [20, 6, 15],
    ] as const)
      assert.deepStrictEqual(medianInterval(upTo(count).toReversed()), [low, high], `${count} values`)
  })

  it("takes percentiles by the nearest rank, and the median between the middle two", () => {
    assert.strictEqual(percentile(upTo(100), 0.99), 99)
    assert.strictEqual(percentile(upTo(100), 0.5), 50)
    assert.strictEqual(percentile([3, 1, 2], 1), 3)
    assert.strictEqual(median([4, 1, 3, 2]), 2.5)
  })

  it("compares neighbours, so that a machine that slows down changes nothing", () => {
    const { ratio, rate, baseline } = ratioOf([50, 20, 10], [100, 40, 20])
    assert.deepStrictEqual({ ratio, rate, baseline }, { ratio: 0.5, rate: 20, baseline: 40 })
  })

  it("lets contestants take turns, and does not count the warm-up", async () => {
    const turns: string[] = []
    const contestant = (name: string) => async () => turns.push(name)
    const values = await interleave(
      { once: false, say: () => {}, wants: () => true, measure: async () => {} },
      { label: "turns", repeats: 2 },
      { a: contestant("a"), b: contestant("b") },
    )
    assert.deepStrictEqual(turns, ["a", "b", "a", "b", "a", "b"])
    assert.deepStrictEqual(values, { a: [3, 5], b: [4, 6] })
  })

  it("begins each act at its moment, however long those before it take", async () => {
    const moments = poisson(200, 0.1)
    assert.strictEqual(moments.length, 20)
    let running = 0
    let most = 0
    const began = performance.now()
    await openLoop(moments, async () => {
      most = Math.max(most, ++running)
      await new Promise((resolve) => setTimeout(resolve, 300))
      running--
    })
    assert.strictEqual(most, 20)
    assert.isBelow(performance.now() - began, 900)
  })
})
