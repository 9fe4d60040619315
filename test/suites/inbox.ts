/** The conformance suite of `Inbox`: what every implementation must do. */
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Fiber, type Scope } from "effect"
import {
  type Arrival,
  type Claim,
  type Inbox,
  type InboxScope,
  type Member,
  RolledBack,
} from "../../src/inbox/inbox.ts"
import type { AnyTransaction } from "../../src/outbox/append.ts"

export interface InboxHarness {
  readonly inbox: Inbox["Service"]
  /** Lets the inbox's clock go on. */
  readonly wait: (millis: number) => Effect.Effect<void>
  /** In order of arrival. */
  readonly rows: Effect.Effect<
    ReadonlyArray<{
      readonly consumer: string
      readonly id: string
      readonly state: string
      readonly attempts: number
      readonly started: number
      readonly due: boolean
      readonly lastError: string | null
    }>
  >
  /** Destinations of what was written to the outbox. */
  readonly emitted: Effect.Effect<ReadonlyArray<string>>
}

const options = { statementMillis: 10_000 }
export const scope: InboxScope = { consumer: "billing", queue: "billing.orders" }

export const arrival = (messageId: string, key: string | null = "k"): Arrival => ({
  messageId,
  destination: "/topic/orders",
  key,
  headers: { "message-id": messageId, odd: "\u0000'\\é" },
  body: new TextEncoder().encode(`{"id":"${messageId}"}`),
})

export const inboxSuite = (name: string, make: Effect.Effect<InboxHarness, never, Scope.Scope>) => {
  const test = (title: string, body: (harness: InboxHarness) => Effect.Effect<void, unknown, Scope.Scope>) =>
    it.live(title, () => Effect.flatMap(make, body))
  const begin = <A>({ inbox }: InboxHarness, body: (tx: AnyTransaction) => Promise<A>) =>
    inbox.transact(body, options)
  const claim = (harness: InboxHarness, ids: ReadonlyArray<Arrival>, ordered = true, of = scope) =>
    begin(harness, (tx) => harness.inbox.claim(tx, of, ids, ordered))
  const park = (
    harness: InboxHarness,
    what: Arrival,
    retryInMillis: number | null,
    attempts = 1,
    error: string | null = "e",
  ) => begin(harness, (tx) => harness.inbox.park(tx, scope, what, { attempts, error, retryInMillis }))
  const bury = (harness: InboxHarness, what: Arrival) =>
    begin(harness, (tx) => harness.inbox.bury(tx, scope, what, { attempts: 3, error: "dead of it" }))
  const resume = (harness: InboxHarness, id: string) =>
    begin(harness, (tx) => harness.inbox.resume(tx, scope, id))
  const dueIds = (harness: InboxHarness, soonest = false) =>
    Effect.map(harness.inbox.due(scope, 10, soonest), ({ parked }) =>
      parked.map((one) => one.arrival.messageId),
    )
  const states = (harness: InboxHarness) =>
    Effect.map(harness.rows, (rows) => rows.map((row) => `${row.id} ${row.state}`))
  /** A transaction that claims and then stays open until `finish`; `fail` rolls it back. */
  const held = (harness: InboxHarness, ids: ReadonlyArray<Arrival>, ordered = true) =>
    Effect.gen(function* () {
      const claimed = yield* Deferred.make<ReadonlyArray<Claim>>()
      let finish = () => {}
      let fail = () => {}
      const told = new Promise<void>((resolve, reject) => {
        finish = resolve
        fail = () => reject(new Error("mine"))
      })
      const fiber = yield* begin(harness, async (tx) => {
        const found = await harness.inbox.claim(tx, scope, ids, ordered)
        Deferred.doneUnsafe(claimed, Effect.succeed(found))
        await told
        return found
      }).pipe(Effect.forkScoped)
      yield* Deferred.await(claimed)
      return {
        finish: Effect.andThen(
          Effect.sync(() => finish()),
          Fiber.join(fiber),
        ),
        fail: Effect.andThen(
          Effect.sync(() => fail()),
          Effect.flip(Fiber.join(fiber)),
        ),
      }
    })

  describe(`Inbox: ${name}`, () => {
    test("opens", ({ inbox }) => inbox.open)

    test("claims a message once for each consumer, without a key as well", (harness) =>
      Effect.gen(function* () {
        assert.deepStrictEqual(yield* claim(harness, [arrival("a"), arrival("b", null)]), ["fresh", "fresh"])
        assert.deepStrictEqual(yield* claim(harness, [arrival("b", null), arrival("c"), arrival("a")]), [
          "settled",
          "fresh",
          "settled",
        ])
        const other = { ...scope, consumer: "shipping" }
        assert.deepStrictEqual(yield* claim(harness, [arrival("a")], true, other), ["fresh"])
        assert.deepStrictEqual(yield* claim(harness, []), [])
      }))

    test("settles the second of two alike in one batch", (harness) =>
      Effect.gen(function* () {
        assert.deepStrictEqual(yield* claim(harness, [arrival("a"), arrival("b"), arrival("a")]), [
          "fresh",
          "fresh",
          "settled",
        ])
      }))

    for (const ordered of [true, false])
      test(`tells in a batch what each message is (${ordered ? "ordered" : "not ordered"})`, (harness) =>
        Effect.gen(function* () {
          yield* claim(harness, [arrival("handled", "p")])
          yield* harness.inbox.start(scope, arrival("started", "free"), undefined)
          yield* park(harness, arrival("parked", "p"), 60_000)
          const batch = [
            arrival("z-new", "free"),
            arrival("parked", "p"),
            arrival("behind", "p"),
            arrival("null", null),
            arrival("handled", "p"),
            arrival("started", "free"),
            arrival("behind", "p"),
            arrival("z-new", "free"),
            arrival("a-new", "free"),
          ]
          const behind = ordered ? "behind" : "fresh"
          assert.deepStrictEqual(yield* claim(harness, batch, ordered), [
            "fresh",
            "settled",
            behind,
            "fresh",
            "settled",
            "fresh",
            ordered ? "behind" : "settled",
            "settled",
            "fresh",
          ])
        }))

    for (const ordered of [true, false])
      test(`waits for a twin and is settled by it (${ordered ? "ordered" : "not ordered"})`, (harness) =>
        Effect.gen(function* () {
          const first = yield* held(harness, [arrival("a")], ordered)
          const second = yield* Effect.forkScoped(claim(harness, [arrival("a")], ordered))
          yield* harness.wait(100)
          assert.strictEqual(second.pollUnsafe(), undefined)
          yield* first.finish
          assert.deepStrictEqual(yield* Fiber.join(second), ["settled"])
        }))

    test("is fresh when the twin it waited for was rolled back", (harness) =>
      Effect.gen(function* () {
        const first = yield* held(harness, [arrival("a")], false)
        const second = yield* Effect.forkScoped(claim(harness, [arrival("a")], false))
        yield* harness.wait(100)
        const failed = yield* first.fail
        assert.instanceOf(failed, RolledBack)
        assert.match(String((failed as RolledBack).cause), /mine/)
        assert.deepStrictEqual(yield* Fiber.join(second), ["fresh"])
      }))

    test("takes one message of a key at a time, and those of others at once", (harness) =>
      Effect.gen(function* () {
        const first = yield* held(harness, [arrival("a")])
        const second = yield* Effect.forkScoped(claim(harness, [arrival("b")]))
        yield* harness.wait(100)
        assert.strictEqual(second.pollUnsafe(), undefined)
        assert.deepStrictEqual(yield* claim(harness, [arrival("c", "other"), arrival("d", null)]), [
          "fresh",
          "fresh",
        ])
        assert.deepStrictEqual(yield* claim(harness, [arrival("e")], false), ["fresh"])
        yield* first.finish
        assert.deepStrictEqual(yield* Fiber.join(second), ["fresh"])
      }))

    test("finds itself behind what the transaction that it waited for has parked", (harness) =>
      Effect.gen(function* () {
        let finish = () => {}
        const locked = yield* Deferred.make<void>()
        const first = yield* begin(harness, async (tx) => {
          await harness.inbox.park(tx, scope, arrival("a"), {
            attempts: 1,
            error: "e",
            retryInMillis: 60_000,
          })
          const told = new Promise<void>((resolve) => {
            finish = resolve
          })
          Deferred.doneUnsafe(locked, Effect.void)
          await told
        }).pipe(Effect.forkScoped)
        yield* Deferred.await(locked)
        const second = yield* Effect.forkScoped(claim(harness, [arrival("b")]))
        yield* harness.wait(100)
        assert.strictEqual(second.pollUnsafe(), undefined)
        finish()
        yield* Fiber.join(first)
        assert.deepStrictEqual(yield* Fiber.join(second), ["behind"])
      }))

    test("does not deadlock on keys and on ids in opposite orders", (harness) =>
      Effect.gen(function* () {
        for (const ordered of [true, false])
          for (let round = 0; round < 10; round++) {
            const batch = Array.from({ length: 20 }, (_, index) =>
              arrival(`${ordered}${round}.${index}`, `k${index}`),
            )
            const claims = yield* Effect.all(
              [batch, batch.toReversed(), batch, batch.toReversed()].map((each) =>
                claim(harness, each, ordered),
              ),
              { concurrency: "unbounded" },
            )
            const fresh = claims.flat().filter((one) => one === "fresh")
            assert.strictEqual(fresh.length, 20)
          }
      }))

    test("holds the key of a parked message, and only that, and only in order", (harness) =>
      Effect.gen(function* () {
        yield* park(harness, arrival("a"), 60_000)
        assert.deepStrictEqual(
          yield* claim(harness, [arrival("b"), arrival("c", "other"), arrival("d", null), arrival("a")]),
          ["behind", "fresh", "fresh", "settled"],
        )
        assert.deepStrictEqual(yield* states(harness), ["a parked", "c handled", "d handled"])
        assert.deepStrictEqual(yield* claim(harness, [arrival("b")], false), ["fresh"])
        const elsewhere = { ...scope, queue: "another" }
        assert.deepStrictEqual(yield* claim(harness, [arrival("e")], true, elsewhere), ["fresh"])
      }))

    test("looks without recording or waiting", (harness) =>
      Effect.gen(function* () {
        const { inbox } = harness
        yield* park(harness, arrival("a"), 60_000)
        yield* inbox.start(scope, arrival("s", "other"), undefined)
        const first = yield* held(harness, [arrival("b", "b")])
        assert.deepStrictEqual(
          yield* Effect.all([
            inbox.look(scope, arrival("a"), true),
            inbox.look(scope, arrival("x"), true),
            inbox.look(scope, arrival("x"), false),
            inbox.look(scope, arrival("x", null), true),
            inbox.look(scope, arrival("s", "other"), true),
            inbox.look(scope, arrival("b", "b"), true),
          ]),
          ["settled", "behind", "fresh", "fresh", "fresh", "fresh"],
        )
        yield* first.finish
        assert.strictEqual(yield* inbox.look(scope, arrival("b", "b"), true), "settled")
      }))

    test("gives back what was parked, bytes, headers and attempts, when it is due", (harness) =>
      Effect.gen(function* () {
        const { inbox } = harness
        assert.deepStrictEqual(yield* inbox.due(scope, 10, false), { parked: [], nextMillis: undefined })
        const odd = { ...arrival("a"), key: "é'\\\"🦆", body: Uint8Array.from([0, 255, 39, 92, 10]) }
        yield* park(harness, odd, 300, 2)
        const early = yield* inbox.due(scope, 10, false)
        assert.deepStrictEqual(early.parked, [])
        assert.isTrue(early.nextMillis !== undefined && early.nextMillis > 0 && early.nextMillis <= 300)
        const soonest = yield* inbox.due(scope, 10, true)
        assert.strictEqual(soonest.nextMillis, undefined)
        assert.strictEqual(soonest.parked.length, 1)
        yield* harness.wait(350)
        const { parked, nextMillis } = yield* inbox.due(scope, 10, false)
        assert.strictEqual(nextMillis, undefined)
        assert.strictEqual(parked[0]?.attempts, 2)
        const { body, ...rest } = parked[0]?.arrival ?? arrival("")
        assert.deepStrictEqual(rest, {
          messageId: "a",
          destination: odd.destination,
          key: odd.key,
          headers: odd.headers,
        })
        assert.deepStrictEqual([...body], [0, 255, 39, 92, 10])
      }))

    test("gives what is due in that order, as many as are asked for, and says when the next one is", (harness) =>
      Effect.gen(function* () {
        yield* park(harness, arrival("late", "1"), 60_000)
        yield* park(harness, arrival("second", "2"), 2)
        yield* park(harness, arrival("first", "3"), 1)
        yield* park(harness, arrival("soon", "4"), 30_000)
        yield* harness.wait(50)
        const ids = yield* dueIds(harness)
        assert.deepStrictEqual(ids.toSorted(), ["first", "second"])
        const one = yield* harness.inbox.due(scope, 1, false)
        assert.strictEqual(one.parked.length, 1)
        assert.strictEqual(one.nextMillis, 0)
        const { nextMillis = 0 } = yield* harness.inbox.due(scope, 10, false)
        assert.isTrue(nextMillis > 25_000 && nextMillis <= 30_000)
        yield* Effect.all([resume(harness, "first"), resume(harness, "second")])
        assert.deepStrictEqual(yield* dueIds(harness, true), ["soon"])
      }))

    test("brings the next of a key when its first is handled or buried, in order of arrival", (harness) =>
      Effect.gen(function* () {
        yield* park(harness, arrival("a"), 0)
        for (const id of ["b", "c", "d"]) yield* park(harness, arrival(id), null, 0, null)
        yield* harness.wait(5)
        assert.deepStrictEqual(yield* dueIds(harness), ["a"])
        assert.isTrue(yield* resume(harness, "a"))
        yield* harness.wait(5)
        assert.deepStrictEqual(yield* dueIds(harness), ["b"])
        assert.isTrue(yield* bury(harness, arrival("b")))
        yield* harness.wait(5)
        assert.deepStrictEqual(yield* dueIds(harness), ["c"])
        yield* park(harness, arrival("c"), 60_000)
        assert.deepStrictEqual(yield* dueIds(harness), [])
        assert.deepStrictEqual(yield* dueIds(harness, true), ["c"])
        assert.isTrue(yield* resume(harness, "c"))
        assert.isTrue(yield* resume(harness, "d"))
        assert.deepStrictEqual(yield* states(harness), ["a handled", "b dead", "c handled", "d handled"])
        assert.deepStrictEqual(yield* claim(harness, [arrival("e")]), ["fresh"])
      }))

    test("makes due at once what should wait behind others that are gone", (harness) =>
      Effect.gen(function* () {
        yield* park(harness, arrival("a"), null, 0, null)
        yield* park(harness, arrival("n", null), null, 0, null)
        yield* harness.wait(5)
        assert.deepStrictEqual(yield* dueIds(harness), ["a", "n"])
      }))

    test("brings nobody whose predecessor still waits, when one between them ends", (harness) =>
      Effect.gen(function* () {
        yield* park(harness, arrival("a"), 60_000)
        // As an operator's requeue leaves it: due out of its turn.
        yield* park(harness, arrival("x"), 0)
        yield* park(harness, arrival("y"), 0)
        yield* park(harness, arrival("b"), null, 0, null)
        assert.isTrue(yield* begin(harness, (tx) => harness.inbox.resume(tx, scope, "x")))
        yield* bury(harness, arrival("y"))
        yield* harness.wait(5)
        assert.deepStrictEqual(yield* dueIds(harness), [])
        assert.isTrue(yield* begin(harness, (tx) => harness.inbox.resume(tx, scope, "a")))
        yield* harness.wait(5)
        assert.deepStrictEqual(yield* dueIds(harness), ["b"])
      }))

    test("brings nobody when the resumption is rolled back", (harness) =>
      Effect.gen(function* () {
        yield* park(harness, arrival("a"), 0)
        yield* park(harness, arrival("b"), null, 0, null)
        const failed = yield* Effect.flip(
          begin(harness, async (tx) => {
            assert.isTrue(await harness.inbox.resume(tx, scope, "a"))
            throw new Error("handler")
          }),
        )
        assert.instanceOf(failed, RolledBack)
        yield* harness.wait(5)
        assert.deepStrictEqual(yield* dueIds(harness), ["a"])
      }))

    test("resumes only what is parked, and only one at a time", (harness) =>
      Effect.gen(function* () {
        yield* claim(harness, [arrival("h")])
        assert.isFalse(yield* resume(harness, "h"))
        assert.isFalse(yield* resume(harness, "unknown"))
        yield* park(harness, arrival("a", null), 0)
        const resumed = yield* Deferred.make<boolean>()
        let finish = () => {}
        const first = yield* begin(harness, async (tx) => {
          const told = new Promise<void>((resolve) => {
            finish = resolve
          })
          Deferred.doneUnsafe(resumed, Effect.succeed(await harness.inbox.resume(tx, scope, "a")))
          await told
        }).pipe(Effect.forkScoped)
        assert.isTrue(yield* Deferred.await(resumed))
        assert.isFalse(yield* resume(harness, "a"))
        finish()
        yield* Fiber.join(first)
        assert.isFalse(yield* resume(harness, "a"))
      }))

    test("parks again without losing its place, and never what is handled or dead", (harness) =>
      Effect.gen(function* () {
        yield* park(harness, arrival("a"), 60_000, 4, "fourth")
        yield* park(harness, arrival("b"), null, 0, null)
        yield* park(harness, arrival("a"), null, 0, null)
        yield* park(harness, arrival("a"), 0, 5, "fifth")
        yield* claim(harness, [arrival("h", "h")])
        yield* park(harness, arrival("h", "h"), 0)
        yield* bury(harness, arrival("d", "d"))
        yield* park(harness, arrival("d", "d"), 0)
        assert.deepStrictEqual(
          (yield* harness.rows).map((row) => [row.id, row.state, row.attempts, row.due, row.lastError]),
          [
            ["a", "parked", 5, true, "fifth"],
            ["b", "parked", 0, false, null],
            ["h", "handled", 0, false, null],
            ["d", "dead", 3, false, "dead of it"],
          ],
        )
      }))

    test("buries what is new, started or parked, and nothing else", (harness) =>
      Effect.gen(function* () {
        yield* harness.inbox.start(scope, arrival("s"), undefined)
        yield* park(harness, arrival("p", "p"), 0)
        yield* claim(harness, [arrival("h", "h")])
        assert.isTrue(yield* bury(harness, arrival("n", null)))
        assert.isTrue(yield* bury(harness, arrival("s")))
        assert.isTrue(yield* bury(harness, arrival("p", "p")))
        assert.isFalse(yield* bury(harness, arrival("p", "p")))
        assert.isFalse(yield* bury(harness, arrival("h", "h")))
        assert.deepStrictEqual((yield* states(harness)).toSorted(), [
          "h handled",
          "n dead",
          "p dead",
          "s dead",
        ])
        assert.deepStrictEqual(yield* dueIds(harness), [])
        assert.deepStrictEqual(yield* claim(harness, [arrival("p", "p"), arrival("q", "p")]), [
          "settled",
          "fresh",
        ])
      }))

    test("counts starts until the message is handled or dead", (harness) =>
      Effect.gen(function* () {
        const { inbox } = harness
        assert.strictEqual(yield* inbox.start(scope, arrival("a"), 0), 1)
        assert.strictEqual(yield* inbox.start(scope, arrival("a"), 0), 0)
        assert.strictEqual(yield* inbox.start(scope, arrival("a"), undefined), 2)
        assert.strictEqual(yield* inbox.start({ ...scope, consumer: "other" }, arrival("a"), undefined), 1)
        assert.deepStrictEqual(yield* claim(harness, [arrival("a")]), ["fresh"])
        assert.strictEqual(yield* inbox.start(scope, arrival("a"), undefined), 0)
        yield* park(harness, arrival("p"), 0)
        assert.strictEqual(yield* inbox.start(scope, arrival("p"), undefined), 1)
        assert.strictEqual((yield* harness.rows).find((row) => row.id === "p")?.state, "parked")
        yield* bury(harness, arrival("p"))
        assert.strictEqual(yield* inbox.start(scope, arrival("p"), undefined), 0)
      }))

    test("counts no start of what another instance is at", (harness) =>
      Effect.gen(function* () {
        const { inbox } = harness
        yield* park(harness, arrival("p"), 0)
        yield* harness.wait(5)
        const read = yield* inbox.due(scope, 10, false)
        assert.deepStrictEqual(
          read.parked.map(({ started }) => started),
          [0],
        )
        assert.strictEqual(yield* inbox.start(scope, arrival("p"), 0), 1)
        assert.strictEqual(yield* inbox.start(scope, arrival("p"), 0), 0)
        yield* Effect.flip(
          begin(harness, async (tx) => {
            assert.isTrue(await inbox.resume(tx, scope, "p"))
            assert.strictEqual(await Effect.runPromise(inbox.start(scope, arrival("p"), 1)), 0)
            throw new Error("handler")
          }),
        )
        assert.strictEqual(yield* inbox.start(scope, arrival("p"), 1), 2)
      }))

    test("is started again when the claim of it was rolled back, and parks from there", (harness) =>
      Effect.gen(function* () {
        yield* harness.inbox.start(scope, arrival("a"), undefined)
        yield* (yield* held(harness, [arrival("a")])).fail
        assert.deepStrictEqual(yield* states(harness), ["a started"])
        yield* park(harness, arrival("a"), 0)
        const [row] = yield* harness.rows
        assert.deepStrictEqual([row?.state, row?.started, row?.attempts], ["parked", 0, 1])
      }))

    test("writes to the outbox with the transaction or not at all", (harness) =>
      Effect.gen(function* () {
        const draft = (destination: string) => ({
          group: 0,
          event: "e",
          operation: "emit",
          destination,
          version: null,
          key: null,
          headers: "{}",
          contentType: "application/json",
          body: "{}",
          due: null,
          timeToLive: null,
        })
        yield* begin(harness, (tx) => harness.inbox.emit(tx, draft("/queue/kept")))
        yield* Effect.flip(
          begin(harness, async (tx) => {
            await harness.inbox.emit(tx, draft("/queue/lost"))
            throw new Error("no")
          }),
        )
        assert.deepStrictEqual(yield* harness.emitted, ["/queue/kept"])
      }))

    test("purges what was handled long enough ago, of this consumer, and nothing else", (harness) =>
      Effect.gen(function* () {
        const { inbox } = harness
        yield* claim(
          harness,
          ["a", "b", "c"].map((id) => arrival(id, null)),
        )
        yield* claim(harness, [arrival("a")], true, { ...scope, consumer: "other" })
        yield* park(harness, arrival("p"), 0)
        yield* bury(harness, arrival("d", "d"))
        yield* inbox.start(scope, arrival("s", "s"), undefined)
        assert.strictEqual(yield* inbox.purge(scope, 60_000, 10), 0)
        yield* harness.wait(1000)
        yield* claim(harness, [arrival("young", null)])
        assert.strictEqual(yield* inbox.purge(scope, 900, 2), 2)
        assert.strictEqual(yield* inbox.purge(scope, 900, 2), 1)
        assert.strictEqual(yield* inbox.purge(scope, 900, 2), 0)
        assert.deepStrictEqual(
          (yield* harness.rows).map((row) => `${row.consumer} ${row.id} ${row.state}`).toSorted(),
          [
            "billing d dead",
            "billing p parked",
            "billing s started",
            "billing young handled",
            "other a handled",
          ],
        )
      }))

    const member = (digit: number, of: InboxScope = scope): Member => ({
      ...of,
      id: `00000000-0000-4000-8000-00000000000${digit}`,
      name: `host/${digit}`,
    })
    const renewal = { leaseMillis: 60_000, state: '{"running":1}', hold: true }

    test("tells a new instance of others, of those that ended uncleanly only once", (harness) =>
      Effect.gen(function* () {
        const { inbox } = harness
        assert.isFalse(yield* inbox.join(member(1), 60_000, true))
        assert.isFalse(yield* inbox.join(member(9, { ...scope, queue: "another" }), 60_000, true))
        assert.isTrue(yield* inbox.join(member(2), 1, true))
        yield* inbox.leave(member(1))
        yield* harness.wait(20)
        assert.isTrue(yield* inbox.join(member(3), 60_000, true))
        yield* inbox.leave(member(3))
        assert.isFalse(yield* inbox.join(member(4), 60_000, true))
        yield* inbox.leave(member(4))
        yield* inbox.renew(member(5), renewal)
        assert.isTrue(yield* inbox.join(member(6), 60_000, true))
      }))

    test("makes everything due that waits behind others when order is given up", (harness) =>
      Effect.gen(function* () {
        yield* park(harness, arrival("a"), 60_000)
        for (const id of ["b", "c"]) yield* park(harness, arrival(id), null, 0, null)
        yield* harness.inbox.join(member(1), 60_000, true)
        yield* harness.wait(5)
        assert.deepStrictEqual(yield* dueIds(harness), [])
        yield* harness.inbox.join(member(1), 60_000, false)
        yield* harness.wait(5)
        assert.deepStrictEqual(yield* dueIds(harness), ["b", "c"])
      }))

    test("gives the subscription to one, until its lease ends or it leaves", (harness) =>
      Effect.gen(function* () {
        const { inbox } = harness
        assert.isFalse(yield* inbox.renew(member(1), { ...renewal, hold: false }))
        assert.isTrue(yield* inbox.renew(member(1), { ...renewal, leaseMillis: 150 }))
        assert.isTrue(yield* inbox.renew(member(1), { ...renewal, hold: false }))
        assert.isFalse(yield* inbox.renew(member(2), renewal))
        assert.isTrue(yield* inbox.renew(member(3, { ...scope, queue: "another" }), renewal))
        yield* harness.wait(200)
        assert.isTrue(yield* inbox.renew(member(2), renewal))
        assert.isFalse(yield* inbox.renew(member(1), renewal))
        yield* inbox.leave(member(1))
        assert.isFalse(yield* inbox.renew(member(1), renewal))
        yield* inbox.leave(member(2))
        assert.isTrue(yield* inbox.renew(member(1), renewal))
      }))

    test("leaves a released subscription alone for as long as was said", (harness) =>
      Effect.gen(function* () {
        const { inbox } = harness
        yield* inbox.renew(member(1), renewal)
        yield* inbox.release(member(2), 0)
        assert.isTrue(yield* inbox.renew(member(1), renewal))
        yield* inbox.release(member(1), 150)
        assert.isFalse(yield* inbox.renew(member(2), renewal))
        assert.isFalse(yield* inbox.renew(member(1), renewal))
        yield* harness.wait(200)
        assert.isTrue(yield* inbox.renew(member(2), renewal))
      }))
  })
}
