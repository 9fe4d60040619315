/** What a socket gives, and when: a server of ours plays the broker, as none can be made to answer so often. */
import { createServer, type Server, type Socket } from "node:net"
import { afterEach, beforeEach, describe, expect, it } from "vitest"
import { parseEndpoint } from "../../src/broker/stomp/endpoint.ts"
import { openWire, type Wire } from "../../src/broker/stomp/wire.ts"

let server: Server
let peer: Promise<Socket>
let wire: Wire | undefined
beforeEach(async () => {
  server = createServer()
  peer = new Promise((resolve) => server.once("connection", resolve))
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
})
afterEach(async () => {
  wire?.destroy()
  ;(await peer).destroy()
  server.close()
})

const turn = () => new Promise((resolve) => setImmediate(resolve))

/** Opens a wire, and gives what it reads until it has closed. */
const opened = async (gatherMillis: number) => {
  const { port } = server.address() as { port: number }
  const chunks: Buffer[] = []
  let close = () => {}
  const closed = new Promise<void>((resolve) => {
    close = resolve
  })
  const endpoint = parseEndpoint(`stomp://127.0.0.1:${port}`, 0)
  wire = openWire(endpoint, {}, 0, {
    onOpen: () => {},
    onData: (bytes) => chunks.push(bytes),
    gatherMillis: () => gatherMillis,
    onClose: () => close(),
  })
  const socket = await peer
  socket.setNoDelay(true)
  return { socket, chunks, closed }
}

/** The chunks in which what was written in so many turns was read. */
const readOf = async (gatherMillis: number, turns: number) => {
  const { socket, chunks, closed } = await opened(gatherMillis)
  for (let n = 0; n < turns; n++) {
    socket.write(`${n},`)
    await turn()
  }
  socket.end()
  await closed
  return chunks
}

describe("openWire", () => {
  it.each([0, 2])("keeps every byte that it gave, gathering for %i ms", async (gatherMillis) => {
    const chunks = await readOf(gatherMillis, 300)
    expect(Buffer.concat(chunks).toString()).toBe(Array.from({ length: 300 }, (_, n) => `${n},`).join(""))
  })

  it("gathers what comes meanwhile, where it may", async () => {
    const gathered = (await readOf(2, 300)).length
    wire?.destroy()
    peer = new Promise((resolve) => server.once("connection", resolve))
    const each = (await readOf(0, 300)).length
    expect(gathered).toBeLessThan(each / 3)
  })

  it("is told of the end while it gathers", async () => {
    const { socket, chunks, closed } = await opened(2)
    socket.write("a")
    while (chunks.length === 0) await turn()
    socket.resetAndDestroy()
    await closed
    expect(Buffer.concat(chunks).toString()).toBe("a")
  })
})
