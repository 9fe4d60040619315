/** The conformance suite of `OutboxStore`: what every implementation must do. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, type Scope } from "effect"
import type { MemoryTransaction } from "../../src/store/memory.ts"
import { LANES, type OutboxStore, type PassResult, type Tick } from "../../src/store/store.ts"

export interface StoreHarness {
  readonly store: OutboxStore["Service"]
  readonly begin: Effect.Effect<MemoryTransaction>
  /** Lets the store's clock go on. */
  readonly wait: (millis: number) => Effect.Effect<void>
  readonly states: Effect.Effect<
    ReadonlyArray<{
      readonly position: number
      readonly state: "pending" | "published" | "dead"
      readonly attempts: number
      readonly lastError: string | null
    }>
  >
}

const all = Array.from({ length: LANES }, (_, lane) => lane)
const ids = ["00000000-0000-4000-8000-00000000000a", "00000000-0000-4000-8000-00000000000b"] as const

export const storeSuite = (name: string, make: Effect.Effect<StoreHarness, never, Scope.Scope>) => {
  const test = (title: string, body: (harness: StoreHarness) => Effect.Effect<void, unknown, Scope.Scope>) =>
    it.live(title, () => Effect.flatMap(make, body))
  const pass = { lanes: all, from: 0, cursor: 0, gaps: [], limit: 100, bytes: 1e6 }
  const tick = (relay: string, options: Partial<Tick> = {}): Tick => ({
    relay,
    name: "test",
    leaseMillis: 60_000,
    renew: true,
    floor: 0,
    state: "{}",
    ...options,
  })
  const write = (
    harness: StoreHarness,
    ...messages: { key?: string; body?: string; availableIn?: number; expiresIn?: number }[]
  ) =>
    Effect.gen(function* () {
      const tx = yield* harness.begin
      const positions: number[] = []
      for (const { key, body, availableIn, expiresIn } of messages)
        positions.push(
          yield* tx.append({
            event: "e",
            destination: "/topic/t",
            body: body ?? "{}",
            ...(key === undefined ? {} : { key }),
            ...(availableIn === undefined ? {} : { availableAt: Date.now() + availableIn }),
            ...(expiresIn === undefined ? {} : { expiresAt: Date.now() + expiresIn }),
          }),
        )
      yield* tx.commit
      return positions
    })
  const positionsOf = (result: {
    readonly seen: ReadonlyArray<{ readonly position: number; readonly message: unknown }>
  }) => result.seen.flatMap(({ position, message }) => (message === undefined ? [] : [position]))

  describe(`OutboxStore: ${name}`, () => {
    test("shows what is committed, in order, and what is rolled back never", (harness) =>
      Effect.gen(function* () {
        const late = yield* harness.begin
        const first = yield* late.append({ event: "e", destination: "/topic/a", key: "k", body: "1" })
        const never = yield* harness.begin
        yield* never.append({ event: "e", destination: "/topic/a", body: "2" })
        const [third] = yield* write(harness, { key: "k" })
        yield* never.rollback
        const before = yield* harness.store.read(pass)
        assert.deepStrictEqual(positionsOf(before), [third])
        yield* late.commit
        const after = yield* harness.store.read({
          ...pass,
          from: third!,
          cursor: third!,
          gaps: [{ low: 1, high: third! - 1 }],
        })
        assert.deepStrictEqual(positionsOf(after), [first])
        const message = after.seen[0]?.message
        assert.deepInclude(message, {
          event: "e",
          destination: "/topic/a",
          key: "k",
          body: "1",
          attempts: 0,
          expired: false,
        })
        assert.strictEqual(message?.lane, before.seen[0]?.message?.lane)
      }))

    test("names the writers that may still make a position appear", (harness) =>
      Effect.gen(function* () {
        const quiet = yield* harness.store.writers
        const tx = yield* harness.begin
        yield* tx.append({ event: "e", destination: "/topic/a", body: "1" })
        const open = yield* harness.store.writers
        assert.strictEqual(open.size, quiet.size + 1)
        yield* tx.commit
        assert.strictEqual((yield* harness.store.writers).size, quiet.size)
      }))

    test("names a writer that has drawn its position and written nothing yet", (harness) =>
      Effect.gen(function* () {
        const quiet = yield* harness.store.writers
        const tx = yield* harness.begin
        const drawn = yield* tx.draw
        assert.strictEqual((yield* harness.store.writers).size, quiet.size + 1)
        const [behind] = yield* write(harness, {})
        assert.isAbove(behind!, drawn)
        assert.strictEqual(
          yield* tx.append({ event: "e", destination: "/topic/a", body: "1" }),
          drawn,
          "what is drawn is what the next row gets",
        )
        yield* tx.commit
        assert.strictEqual((yield* harness.store.writers).size, quiet.size)
      }))

    test("cuts a pass at its limits and says so", (harness) =>
      Effect.gen(function* () {
        const written = yield* write(
          harness,
          ...Array.from({ length: 10 }, () => ({ body: "x".repeat(100) })),
        )
        const few = yield* harness.store.read({ ...pass, limit: 4 })
        assert.deepStrictEqual([positionsOf(few), few.full], [written.slice(0, 4), true])
        const small = yield* harness.store.read({ ...pass, bytes: 250 })
        assert.deepStrictEqual([positionsOf(small), small.full], [written.slice(0, 3), true])
        const one = yield* harness.store.read({ ...pass, bytes: 1 })
        assert.deepStrictEqual([positionsOf(one), one.full], [written.slice(0, 1), true])
        const rest = yield* harness.store.read({ ...pass, from: written[3]!, cursor: written[3]! })
        assert.deepStrictEqual([positionsOf(rest), rest.full], [written.slice(4), false])
      }))

    test("behind the cursor shows only what is ready and ours, above it every position", (harness) =>
      Effect.gen(function* () {
        const written = yield* write(
          harness,
          { key: "a" },
          { key: "b" },
          { key: "a", availableIn: 60_000 },
          { key: "a" },
        )
        const head = yield* harness.store.read(pass)
        const lane = head.seen[0]!.message!.lane
        assert.notStrictEqual(lane, head.seen[1]!.message!.lane)
        const mine = yield* harness.store.read({ ...pass, lanes: [lane] })
        assert.deepStrictEqual(positionsOf(mine), [written[0], written[3]])
        assert.isFalse(mine.full)
        const behind = yield* harness.store.read({ ...pass, lanes: [lane], cursor: written[3]! })
        assert.deepStrictEqual(
          behind.seen.map(({ position }) => position),
          [written[0], written[3]],
        )
        yield* harness.store.published([written[0]!], true)
        assert.deepStrictEqual(
          positionsOf(yield* harness.store.read({ ...pass, lanes: [lane], cursor: written[3]! })),
          [written[3]],
        )
      }))

    test("above the cursor tells what is missing and how far it has seen, whoever's that is", (harness) =>
      Effect.gen(function* () {
        const start = (yield* write(harness, { key: "a" })).at(-1)!
        const head = (yield* harness.store.read({ ...pass, cursor: start - 1, from: start - 1 })).seen[0]!
        const of = { ...pass, from: start, cursor: start }
        const late = yield* harness.begin
        const drawn = [
          yield* late.append({ event: "e", destination: "/topic/a", key: "b", body: "1" }),
          yield* late.append({ event: "e", destination: "/topic/a", key: "a", body: "2" }),
        ] as const
        const foreign = yield* write(harness, { key: "b" }, { key: "b" }, { key: "b" })
        const own = yield* write(harness, { key: "a" })
        const theirs = yield* write(harness, { key: "b" }, { key: "b" })
        const lanes = [head.message!.lane]
        const shape = (result: PassResult) =>
          result.seen.map(({ position, missing, message }) => [position, missing, message !== undefined])
        const whole = yield* harness.store.read({ ...of, lanes })
        assert.deepStrictEqual(shape(whole), [
          [foreign[0], 2, false],
          [own[0], 0, true],
          [theirs[1], 0, false],
        ])
        assert.isFalse(whole.full)
        const [, next] = (yield* harness.store.read({ ...pass, cursor: start - 1, from: start - 1 })).seen
        const tight = yield* harness.store.read({ ...of, lanes: [next!.message!.lane], limit: 1, bytes: 1 })
        assert.deepStrictEqual([shape(tight), tight.full], [[[foreign[0], 2, true]], true])
        yield* late.commit
        const gaps = [{ low: drawn[0], high: drawn[1] }]
        const behind = { ...pass, from: theirs[1]!, cursor: theirs[1]!, gaps, lanes }
        assert.deepStrictEqual(shape(yield* harness.store.read(behind)), [
          [drawn[0], 0, false],
          [drawn[1], 0, true],
        ])
        const one = yield* harness.store.read({ ...of, lanes, limit: 1 })
        assert.deepStrictEqual([shape(one), one.full], [[[drawn[1], 0, true]], true])
        const [last] = yield* write(harness, { key: "b" })
        assert.deepStrictEqual(shape(yield* harness.store.read(behind)), [
          [drawn[0], 0, false],
          [drawn[1], 0, true],
          [last, 0, false],
        ])
      }))

    test("is not cut between what it says of a position and that position's message", (harness) =>
      Effect.gen(function* () {
        const late = yield* harness.begin
        const gap = yield* late.append({
          event: "e",
          destination: "/topic/a",
          key: "a",
          body: "1",
          availableAt: Date.now() + 60_000,
        })
        const never = yield* harness.begin
        const [ready] = yield* write(harness, { key: "a" })
        const cursor = ready!
        yield* never.append({ event: "e", destination: "/topic/a", body: "2" })
        const [next] = yield* write(harness, { key: "a" })
        yield* never.rollback
        yield* late.commit
        const result = yield* harness.store.read({
          ...pass,
          from: cursor,
          cursor,
          gaps: [{ low: gap, high: gap }],
          limit: 1,
        })
        assert.deepStrictEqual(
          result.seen.map(({ position, missing, message }) => [position, missing, message !== undefined]),
          [
            [gap, 0, false],
            [next, 1, true],
          ],
        )
      }))

    test("shares the lanes, moves them when a lease ends, and a new token goes with each move", (harness) =>
      Effect.gen(function* () {
        const [a, b] = ids
        const alone = yield* harness.store.tick(tick(a))
        assert.deepInclude(alone, { alive: true, live: 1, orphans: 0 })
        assert.strictEqual(alone.lanes.size, LANES)
        const second = yield* harness.store.tick(tick(b, { leaseMillis: 300 }))
        assert.strictEqual(second.lanes.size, 0)
        assert.strictEqual(second.live, 2)
        yield* harness.store.release(a, all.slice(0, 32))
        const shared = yield* harness.store.tick(tick(b, { leaseMillis: 300 }))
        assert.deepStrictEqual(
          [...shared.lanes.keys()].sort((x, y) => x - y),
          all.slice(0, 32),
        )
        for (const [lane, token] of shared.lanes) assert.isAbove(token, alone.lanes.get(lane)!)
        // Its lease over, b is dead even to itself, and a has everything again.
        yield* harness.wait(400)
        assert.strictEqual((yield* harness.store.tick(tick(b))).alive, false)
        const again = yield* harness.store.tick(tick(a, { renew: false }))
        assert.strictEqual(again.lanes.size, LANES)
        assert.strictEqual(again.live, 1)
      }))

    test("a relay that leaves gives everything back at once", (harness) =>
      Effect.gen(function* () {
        const [a, b] = ids
        yield* harness.store.tick(tick(a, { floor: 41 }))
        yield* harness.store.release(a)
        const next = yield* harness.store.tick(tick(b))
        assert.deepInclude(next, { live: 1, orphans: 0 })
        assert.strictEqual(next.lanes.size, LANES)
      }))

    test("fences verdicts by the lane's token, never confirmations", (harness) =>
      Effect.gen(function* () {
        const [first, second, third] = yield* write(harness, { key: "k" }, { key: "k" }, { key: "k" })
        const { lanes } = yield* harness.store.tick(tick(ids[0]))
        const [head] = (yield* harness.store.read(pass)).seen
        const lane = head!.message!.lane
        const verdict = { lane, token: lanes.get(lane)!, words: "no", attempts: 1 }
        const done = yield* harness.store.judge([
          { ...verdict, position: first!, fate: { retryInMillis: 60_000 } },
          { ...verdict, position: second!, fate: "dead", token: verdict.token - 1 },
        ])
        assert.deepStrictEqual([...done], [first])
        assert.deepStrictEqual(
          (yield* harness.store.refused(all)).map(({ position, key }) => [position, key]),
          [[first, "k"]],
        )
        assert.deepStrictEqual(positionsOf(yield* harness.store.read(pass)), [second, third])
        yield* harness.store.judge([{ ...verdict, position: third!, fate: "dead", words: "nul \0 in it" }])
        yield* harness.store.published([first!, third!], true)
        assert.deepStrictEqual(
          (yield* harness.states).map(({ position, state, attempts }) => [position, state, attempts]),
          [
            [first, "published", 1],
            [second, "pending", 0],
            [third, "published", 1],
          ],
        )
        assert.strictEqual(
          (yield* harness.store.judge([{ ...verdict, position: first!, fate: "dead" }])).size,
          0,
        )
      }))

    test("makes due what is due, for the holder of the lane alone", (harness) =>
      Effect.gen(function* () {
        const [soon, later] = yield* write(
          harness,
          { key: "k", availableIn: 1500 },
          { key: "k", availableIn: 60_000 },
        )
        const { lanes } = yield* harness.store.tick(tick(ids[0]))
        assert.lengthOf(yield* harness.store.promote(lanes, 10), 0)
        yield* harness.wait(1600)
        const stale = new Map([...lanes].map(([lane, token]) => [lane, token - 1]))
        assert.lengthOf(yield* harness.store.promote(stale, 10), 0)
        const due = yield* harness.store.promote(lanes, 10)
        assert.deepStrictEqual(
          due.map((message) => message.position),
          [soon],
        )
        assert.deepStrictEqual(positionsOf(yield* harness.store.read(pass)), [soon])
        assert.deepInclude(yield* harness.store.counts, { pending: 2, dead: 0 })
        assert.isAbove(later!, soon!)
      }))

    test("says that a message's time is over, by its own clock", (harness) =>
      Effect.gen(function* () {
        yield* write(harness, { expiresIn: 100 }, { expiresIn: 60_000 })
        yield* harness.wait(150)
        const { seen } = yield* harness.store.read(pass)
        assert.deepStrictEqual(
          seen.map(({ message }) => message?.expired),
          [true, false],
        )
      }))

    test("purges what finished long enough ago, never what is pending", (harness) =>
      Effect.gen(function* () {
        const written = yield* write(harness, {}, {}, {}, {})
        const { lanes } = yield* harness.store.tick(tick(ids[0]))
        const { seen } = yield* harness.store.read(pass)
        const lane = seen[1]!.message!.lane
        yield* harness.store.published([written[0]!], true)
        yield* harness.store.judge([
          { position: written[1]!, lane, token: lanes.get(lane)!, words: "x", attempts: 0, fate: "dead" },
        ])
        yield* harness.wait(200)
        yield* harness.store.published([written[2]!], true)
        const states = harness.states.pipe(Effect.map((rows) => rows.map(({ position }) => position)))
        const purge = (publishedMillis: number | undefined, deadMillis: number | undefined) =>
          harness.store.purge({ publishedMillis, deadMillis, after: 0, limit: 100 })
        assert.strictEqual((yield* purge(150, undefined)).deleted, 1)
        assert.deepStrictEqual(yield* states, written.slice(1))
        assert.strictEqual((yield* purge(60_000, 150)).deleted, 1)
        assert.strictEqual((yield* purge(0, 0)).deleted, 1)
        assert.deepStrictEqual(yield* states, written.slice(3))
      }))

    test("deletes what is published when nothing is kept", (harness) =>
      Effect.gen(function* () {
        const [first, second] = yield* write(harness, {}, {})
        yield* harness.store.published([first!], false)
        assert.deepStrictEqual(
          (yield* harness.states).map(({ position }) => position),
          [second],
        )
      }))
  })
}
