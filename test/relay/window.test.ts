import { assert, describe, it } from "@effect/vitest"
import { makeWindow } from "../../src/relay/window.ts"
import type { StoredMessage } from "../../src/store/store.ts"

const msg = (position: number, key: string | null = "k", destination = "/topic/t", lane = 1) =>
  ({ position, lane, key, destination, body: "x", attempts: 0 }) as unknown as StoredMessage
const make = (pipelined = true, size = 100) => {
  const rewinds: number[] = []
  const window = makeWindow({ size, bytes: 1e9, rewind: (p) => void rewinds.push(p), now: () => 0 })
  window.connected({ pipelined })
  window.reading()
  return { window, rewinds }
}
const refusedRow = (m: StoredMessage) => ({
  position: m.position,
  lane: m.lane,
  destination: m.destination,
  key: m.key!,
})

describe("window", () => {
  it("a refusal settled while the relay has no lanes holds its key when they come back", () => {
    const { window } = make()
    const [m1, m2] = [msg(1), msg(2)]
    window.admit(m1)
    window.refused(m1)
    window.clear() // lease lost before the verdict was written
    window.settled([m1]) // the database is back: attempts = 1, available_at later
    window.hold([refusedRow(m1)], new Set([1])) // lanes taken again
    window.reading()
    assert.isFalse(window.admit(m2), "m2 overtakes the refused m1")
  })
  it("a refusal still on its way to the database when the lanes come back holds its key", () => {
    const { window, rewinds } = make()
    const [m1, m2] = [msg(1), msg(2)]
    window.admit(m1)
    window.refused(m1)
    window.clear()
    window.hold([], new Set([1])) // the row is still as it was
    window.reading()
    assert.isFalse(window.admit(m1))
    assert.isFalse(window.admit(m2), "m2 overtakes the refused m1")
    void rewinds
  })
  it("suspects of a lane that is given away do not keep the window at 1", () => {
    const { window } = make()
    window.admit(msg(1, "a", "/topic/t", 1))
    window.admit(msg(2, "b", "/topic/t", 2))
    window.lost("unnamed")
    window.dropLanes(new Set([1]))
    window.reading()
    const two = msg(2, "b", "/topic/t", 2)
    window.admit(two)
    window.confirmed(two)
    window.settled([two])
    assert.isAbove(window.room(), 1)
  })
  it("suspects behind a held key or destination do not keep the window at 1", () => {
    const { window } = make()
    const [m1, m2] = [msg(1, "a", "/bad"), msg(2, "b", "/bad")]
    window.admit(m1)
    window.admit(m2)
    window.lost("unnamed")
    window.reading()
    window.admit(m1)
    window.holdDestination(m1, "not found")
    assert.isFalse(window.admit(m2))
    assert.isAbove(window.room(), 1)
  })
  it("of two refused messages of a key, the second goes when the first is done", () => {
    const { window, rewinds } = make()
    const [m1, m2] = [msg(1), msg(2)]
    window.hold([refusedRow(m1), refusedRow(m2)], new Set([1]))
    assert.isFalse(window.admit(m2)) // promoted first: left out
    assert.isTrue(window.admit(m1))
    rewinds.length = 0
    window.confirmed(m1)
    assert.deepStrictEqual(rewinds, [2], "m2 is ready and nobody reads it again")
  })
  it("a head read while others of its key are flying is read again when these are lost", () => {
    const { window, rewinds } = make()
    const [m1, m2] = [msg(1), msg(2)]
    window.admit(m1)
    window.admit(m2)
    window.refused(m1)
    window.settled([m1])
    window.reading()
    assert.isFalse(window.admit(m1)) // promoted before the connection's end is noticed
    rewinds.length = 0
    window.lost("known")
    assert.include(rewinds, 1, "m1 is ready and nobody reads it again")
  })
  it("dropping lanes gives the room of their queues back", () => {
    const { window } = make(false)
    window.admit(msg(1))
    window.admit(msg(2))
    window.dropLanes(new Set([1]))
    window.confirmed(msg(1))
    window.settled([msg(1)])
    assert.isTrue(window.idle())
  })
  it("a lane dropped and regained with a message in flight keeps one of a key in flight", () => {
    const { window } = make(false)
    window.admit(msg(1))
    window.dropLanes(new Set([1]))
    window.hold([], new Set([1]))
    window.reading()
    assert.isFalse(window.admit(msg(1)))
    assert.isFalse(window.admit(msg(2)), "two of a key in flight")
  })
  it("what is confirmed but not recorded counts as repeated after a crash", () => {
    const { window } = make(true, 10)
    for (let p = 1; p <= 10; p++) window.admit(msg(p, null))
    for (let p = 1; p <= 10; p++) window.confirmed(msg(p, null))
    assert.isBelow(window.room(), 10, "the window does not bound what is sent and unrecorded")
  })
  it("a promoted message whose verdict's answer came late is not dropped", () => {
    const { window, rewinds } = make()
    const m1 = msg(1)
    window.admit(m1)
    window.refused(m1)
    window.reading()
    window.settled([m1]) // answer of judge after promote gave m1
    assert.isTrue(window.admit(m1) || rewinds.includes(1), "dropped: ready, and nobody reads it again")
  })
})
