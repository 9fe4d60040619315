import { assert, describe, it } from "@effect/vitest"
import { check, type History } from "./check.ts"
import type { Tried } from "./writer.ts"

const tried = (orders: ReadonlyArray<readonly [string, string]>, called: number, committed: number | null) =>
  ({ orders, called, committed }) satisfies Tried

/** a, then b, then c and d in one transaction: all of key k. */
const writes = [
  tried([["a", "k"]], 0, 1),
  tried([["b", "k"]], 2, 3),
  tried(
    [
      ["c", "k"],
      ["d", "k"],
    ],
    4,
    5,
  ),
]
const arrival = (ref: string, redelivered = false, at = 0) => ({ id: `m-${ref}`, ref, redelivered, at })
const history = (change: Partial<History> = {}): History => ({
  committed: ["a", "b", "c", "d"].map((ref) => ({ ref, key: "k" })),
  tried: writes,
  arrivals: ["a", "b", "c", "d"].map((ref) => arrival(ref)),
  effects: ["a", "b", "c", "d"].map((ref) => ({ id: `m-${ref}`, ref })),
  excused: new Set(),
  ...change,
})
const arrivals = (...refs: ReadonlyArray<string>) =>
  check(history({ arrivals: refs.map((ref) => arrival(ref)) }))
const effects = (...refs: ReadonlyArray<string>) =>
  check(history({ effects: refs.map((ref) => ({ id: `m-${ref}`, ref })) }))

describe("check", () => {
  it("finds nothing in a history without a fault", () => {
    assert.deepStrictEqual(check(history()), {
      lost: [],
      invented: [],
      effectsNotOne: [],
      orderBroken: [],
      repeats: 0,
      longestStall: 0,
    })
  })

  it("finds what never arrived, and what never took effect", () => {
    assert.deepStrictEqual(arrivals("a", "b", "c").lost, ["d never arrived"])
    assert.deepStrictEqual(effects("b", "c", "d").lost, ["a never took effect"])
    assert.deepStrictEqual(check(history({ effects: [], excused: new Set(["a", "b", "c", "d"]) })).lost, [])
  })

  it("finds what was never committed, and what took effect twice", () => {
    assert.deepStrictEqual(arrivals("a", "b", "c", "d", "x").invented, ["x"])
    assert.deepStrictEqual(effects("a", "b", "c", "d", "b").effectsNotOne, ["b took effect 2 times"])
  })

  it("finds a message before one that was committed before it was written", () => {
    assert.lengthOf(arrivals("b", "a", "c", "d").orderBroken, 1)
    assert.lengthOf(arrivals("a", "c", "d", "b").orderBroken, 2)
    assert.lengthOf(effects("a", "c", "b", "d").orderBroken, 1)
  })

  it("finds messages of one transaction in another order", () => {
    assert.match(arrivals("a", "b", "d", "c").orderBroken[0] ?? "", /its transaction wrote before it/)
  })

  it("leaves alone what overlaps, what belongs to other keys, and whose commit nobody saw", () => {
    const overlapping = [tried([["a", "k"]], 0, 5), tried([["b", "k"]], 4, 6)]
    const strangers = [tried([["a", "k"]], 0, 1), tried([["b", "l"]], 4, 6)]
    const unknown = [tried([["a", "k"]], 0, null), tried([["b", "k"]], 4, 6)]
    for (const tried of [overlapping, strangers, unknown]) {
      const turned = ["b", "a"].map((ref) => arrival(ref))
      assert.deepStrictEqual(check(history({ tried, arrivals: turned })).orderBroken, [])
    }
  })

  it("counts repeats, which change no order, apart from the broker's own", () => {
    const repeated = [
      arrival("a"),
      arrival("b"),
      arrival("a"),
      arrival("c"),
      arrival("d"),
      arrival("b", true),
    ]
    const { repeats, orderBroken } = check(history({ arrivals: repeated }))
    assert.deepStrictEqual({ repeats, orderBroken }, { repeats: 1, orderBroken: [] })
  })

  it("measures the longest time without a first arrival", () => {
    const times = [
      arrival("a", false, 0),
      arrival("b", false, 10),
      arrival("b", false, 500),
      arrival("c", false, 900),
    ]
    assert.strictEqual(check(history({ arrivals: times })).longestStall, 890)
  })
})
