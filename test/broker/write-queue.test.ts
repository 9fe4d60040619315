import { describe, expect, it } from "vitest"
import { makeWriteQueue } from "../../src/broker/stomp/write-queue.ts"

const turn = () => new Promise((resolve) => setImmediate(resolve))

const make = () => {
  const writes: Array<{ readonly text: string; readonly done: () => void }> = []
  const queue = makeWriteQueue((bytes, done) =>
    writes.push({ text: Buffer.from(bytes).toString("latin1"), done }),
  )
  return { writes, queue }
}

describe("makeWriteQueue", () => {
  it("writes what one turn pushed at once, text and bytes in order", async () => {
    const { writes, queue } = make()
    queue.push("a")
    queue.push(Uint8Array.of(0, 255))
    queue.push("b")
    expect(writes).toHaveLength(0)
    await turn()
    expect(writes.map(({ text }) => text)).toEqual(["a\0\u00ffb"])
  })

  it("has one write with the kernel, and the next when that is done", async () => {
    const { writes, queue } = make()
    queue.push("a")
    await turn()
    queue.push("b")
    queue.push("c")
    await turn()
    await turn()
    expect(writes).toHaveLength(1)
    expect(queue.size()).toBe(3)
    writes[0]?.done()
    await turn()
    expect(writes.map(({ text }) => text)).toEqual(["a", "bc"])
    expect(queue.size()).toBe(2)
    writes[1]?.done()
    expect(queue.size()).toBe(0)
  })

  it("bounds a write, but never cuts a frame of bytes", async () => {
    const { writes, queue } = make()
    const sizes = [100_000, 100_000, 100_000, 600_000, 10]
    for (const size of sizes) queue.push(new Uint8Array(size))
    for (let n = 0; n < 4; n++) {
      await turn()
      writes[n]?.done()
    }
    expect(writes.map(({ text }) => text.length)).toEqual([200_000, 100_000, 600_000, 10])
  })

  it("writes nothing after close", async () => {
    const { writes, queue } = make()
    queue.push("a")
    await turn()
    queue.push("b")
    queue.close()
    writes[0]?.done()
    queue.push("c")
    await turn()
    expect(writes).toHaveLength(1)
    expect(queue.size()).toBe(0)
  })
})
