import { assert, describe, it } from "@effect/vitest"
import { makeCursor } from "../../src/relay/cursor.ts"
import type { PassResult } from "../../src/store/store.ts"
import { random } from "../support/random.ts"

/** A pass of a cursor here that saw these positions. */
const seenFrom = (cursor: number, positions: ReadonlyArray<number>): PassResult["seen"] => {
  let before = cursor
  return positions.map((position) => {
    const missing = Math.max(0, position - before - 1)
    before = Math.max(before, position)
    return { position, missing, message: undefined }
  })
}
const seen = (cursor: number, ...positions: number[]): PassResult => ({
  seen: seenFrom(cursor, positions),
  full: false,
})
const none = new Set<string>()

describe("cursor", () => {
  it("remembers what it has not seen below the highest position", () => {
    const cursor = makeCursor(0)
    cursor.begin()
    cursor.absorb(seen(0, 2, 3, 7))
    assert.deepStrictEqual(cursor.begin(), {
      from: 7,
      cursor: 7,
      gaps: [
        { low: 1, high: 1 },
        { low: 4, high: 6 },
      ],
    })
    cursor.absorb(seen(7, 5, 9))
    assert.deepStrictEqual(cursor.begin().gaps, [
      { low: 1, high: 1 },
      { low: 4, high: 4 },
      { low: 6, high: 6 },
      { low: 8, high: 8 },
    ])
    assert.strictEqual(cursor.floor(), 0)
  })

  it("forgets a gap after its writers have ended and one more pass has looked", () => {
    const cursor = makeCursor(0)
    cursor.begin()
    cursor.absorb(seen(0, 2))
    cursor.observe(new Set(["a", "b"]))
    cursor.observe(new Set(["b"]))
    cursor.begin()
    cursor.absorb(seen(0))
    assert.isTrue(cursor.uncertain())
    cursor.observe(new Set(["c"]))
    assert.strictEqual(cursor.floor(), 0)
    assert.lengthOf(cursor.begin().gaps, 1)
    cursor.absorb(seen(0))
    assert.lengthOf(cursor.begin().gaps, 0)
    assert.strictEqual(cursor.floor(), 2)
  })

  it("does not take a pass that began before the writers ended, or that was cut short, for the last look", () => {
    const cursor = makeCursor(0)
    cursor.begin()
    cursor.absorb(seen(0, 5, 9))
    cursor.observe(new Set(["a"]))
    cursor.begin()
    cursor.observe(none)
    cursor.absorb(seen(0))
    assert.lengthOf(cursor.begin().gaps, 2)
    cursor.absorb({ ...seen(9, 2), full: true })
    assert.deepStrictEqual(cursor.begin().gaps, [
      { low: 3, high: 4 },
      { low: 6, high: 8 },
    ])
  })

  it("reads again from a rewind, also one that comes while a pass is under way", () => {
    const cursor = makeCursor(100)
    assert.strictEqual(cursor.begin().from, 0)
    cursor.absorb({ ...seen(100, 40, 50), full: true })
    assert.strictEqual(cursor.begin().from, 50)
    cursor.rewind(20)
    cursor.absorb(seen(100, 60))
    assert.strictEqual(cursor.begin().from, 19)
    cursor.absorb(seen(100, 20))
    assert.isFalse(cursor.behind())
    assert.strictEqual(cursor.begin().from, 100)
  })

  // Writers draw positions, commit late or never; passes are cut short, rewound and told of writers at any moment.
  it("misses nothing and lets nothing overtake its cause", () => {
    for (let seed = 1; seed <= 100; seed++) simulate(seed)
  })
})

interface Writer {
  readonly name: string
  readonly positions: number[]
}

const simulate = (seed: number) => {
  const { below, chance } = random(seed)
  const cursor = makeCursor(0)
  const open: Writer[] = []
  const committed = new Set<number>()
  const taken = new Set<number>()
  /** For each position the positions committed when it was drawn: they must be taken first. */
  const causes = new Map<number, ReadonlyArray<number>>()
  let drawn = 0
  let names = 0
  let snapshot: ReturnType<typeof cursor.begin> | undefined
  let result: PassResult | undefined

  const step = (least = 0) => {
    const dice = least + below(10 - least)
    if (dice < 3) {
      const writer =
        chance(0.5) && open.length > 0 ? open[below(open.length)]! : { name: `w${++names}`, positions: [] }
      if (!open.includes(writer)) open.push(writer)
      for (let i = below(4); i >= 0; i--) {
        writer.positions.push(++drawn)
        causes.set(drawn, [...committed])
      }
    } else if (dice < 5 && open.length > 0) {
      const [writer] = open.splice(below(open.length), 1)
      if (chance(0.8)) for (const position of writer!.positions) committed.add(position)
    } else if (dice < 6) {
      cursor.observe(new Set(open.map((writer) => writer.name)))
    } else if (dice < 7) {
      cursor.rewind(1 + below(drawn + 1))
    } else if (snapshot === undefined) {
      const pass = cursor.begin()
      snapshot = pass
      // The pass's snapshot is taken here; it is absorbed later.
      const visible = [...committed]
        .filter(
          (position) =>
            pass.gaps.some(({ low, high }) => low <= position && position <= high) ||
            (pass.from < pass.cursor
              ? position > pass.from && position <= pass.cursor && !taken.has(position)
              : position > pass.cursor),
        )
        .sort((a, b) => a - b)
      const limit = 1 + below(6)
      const cut = visible.slice(0, limit)
      result = { seen: seenFrom(pass.cursor, cut), full: cut.length === limit }
    } else {
      cursor.absorb(result!)
      for (const { position } of result!.seen) {
        for (const cause of causes.get(position) ?? [])
          assert.isTrue(taken.has(cause), `${position} overtook ${cause} (seed ${seed})`)
        taken.add(position)
      }
      snapshot = undefined
    }
    for (const position of open.flatMap((writer) => writer.positions))
      assert.isAbove(position, cursor.floor(), `the floor passed an open position (seed ${seed})`)
  }

  for (let i = 0; i < 250; i++) step()
  for (const writer of open.splice(0)) for (const position of writer.positions) committed.add(position)
  for (let i = 0; i < 2000 && taken.size < committed.size; i++) step(7)
  assert.deepStrictEqual(
    [...committed].filter((position) => !taken.has(position)),
    [],
    `missed (seed ${seed})`,
  )
}
