/** What a socket gives, and when: a server of ours plays the broker, as none can be made to answer so often. */
import { createServer, type Server, type Socket } from "node:net"
import { createServer as createTlsServer } from "node:tls"
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest"
import { parseEndpoint } from "../../src/broker/stomp/endpoint.ts"
import { openWire } from "../../src/broker/stomp/wire.ts"
import { type Certificates, makeCertificates } from "../support/certificates.ts"

let certificates: Certificates
beforeAll(() => {
  certificates = makeCertificates()
})
afterAll(() => certificates?.remove())

const cleanups: Array<() => unknown> = []
afterEach(() => {
  for (const clean of cleanups.splice(0).reverse()) clean()
})

const turn = () => new Promise((resolve) => setImmediate(resolve))

describe.each(["stomp", "stomps"] as const)("openWire of %s", (scheme) => {
  const serve = (): Server => {
    if (scheme === "stomp") return createServer()
    const { cert, key } = certificates.issue("wire", "IP:127.0.0.1")
    return createTlsServer({ cert, key })
  }

  /** Opens a wire to a peer, and gives what it reads until it has closed. */
  const opened = async (gatherMillis: number) => {
    const server = serve()
    cleanups.push(() => server.close())
    const connected = new Promise<Socket>((resolve) =>
      server.once(scheme === "stomp" ? "connection" : "secureConnection", resolve),
    )
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
    const { port } = server.address() as { port: number }
    const chunks: Buffer[] = []
    let close = () => {}
    const closed = new Promise<void>((resolve) => {
      close = resolve
    })
    const wire = openWire(parseEndpoint(`${scheme}://127.0.0.1:${port}`, 0), { ca: certificates.ca }, 0, {
      onOpen: () => {},
      onData: (bytes) => chunks.push(bytes),
      gatherMillis: () => gatherMillis,
      onClose: () => close(),
    })
    cleanups.push(wire.destroy)
    const peer = await connected
    peer.on("error", () => {})
    peer.setNoDelay(true)
    cleanups.push(() => peer.destroy())
    return { peer, chunks, closed }
  }

  /** What was written in so many turns of the event loop, and in how many of them something was read. */
  const readOf = async (gatherMillis: number, turns: number) => {
    const { peer, chunks, closed } = await opened(gatherMillis)
    let reads = 0
    for (let n = 0; n < turns; n++) {
      const before = chunks.length
      peer.write(`${n},`)
      await turn()
      if (chunks.length > before) reads++
    }
    peer.end()
    await closed
    return { text: Buffer.concat(chunks).toString(), reads }
  }

  it.each([0, 2])("keeps every byte that it gave, gathering for %i ms", async (gatherMillis) => {
    const { text } = await readOf(gatherMillis, 300)
    expect(text).toBe(Array.from({ length: 300 }, (_, n) => `${n},`).join(""))
  })

  // Where a turn takes longer than the gathering, as on a busy machine, there is nothing to gather.
  it("gathers what comes meanwhile, where it may", { retry: 4 }, async () => {
    const gathered = await readOf(2, 300)
    const each = await readOf(0, 300)
    expect(gathered.reads).toBeLessThan(each.reads / 3)
  })

  it("is told of the end while it gathers", async () => {
    const { peer, chunks, closed } = await opened(2)
    peer.write("a")
    while (chunks.length === 0) await turn()
    peer.destroy()
    await closed
    expect(Buffer.concat(chunks).toString()).toBe("a")
  })
})
