/** Peers that are no brokers, or mad ones: a socket of ours plays them, as no broker can be made to. */
import { createServer, type Server, type Socket } from "node:net"
import { Effect } from "effect"
import { afterEach, beforeEach, describe, expect, it } from "vitest"
import { layerStomp } from "../../src/broker/stomp/stomp.ts"
import { connector, eventually, outgoing, settled } from "../suites/broker.ts"

const CONNECTED = "CONNECTED\nversion:1.2\nheart-beat:0,0\nserver:RabbitMQ/3.10.8\n\n\0\n"

let server: Server
let peer: Socket | undefined
let received: string
/** What the peer says to CONNECT. */
let answer: string | undefined
const closes: Array<() => Promise<void>> = []

beforeEach(async () => {
  answer = CONNECTED
  received = ""
  server = createServer((socket) => {
    peer = socket
    socket.on("error", () => {})
    socket.on("data", (bytes) => {
      if (received === "" && answer !== undefined) socket.write(answer)
      received += bytes.toString("latin1")
    })
  })
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
})
afterEach(async () => {
  for (const close of closes.splice(0)) await close()
  peer?.destroy()
  server.close()
})

const open = async () => {
  const { port } = server.address() as { port: number }
  const { open, closeAll } = connector(
    layerStomp({ url: `stomp://me:s3cret@127.0.0.1:${port}`, connectTimeout: "500 millis" }),
  )
  closes.push(closeAll)
  return open()
}
const failure = () =>
  open().then(
    () => expect.unreachable("connected"),
    (error) => error as { reason: string; message: string },
  )

describe("instead of CONNECTED", () => {
  it.each([
    ["HTTP", "HTTP/1.1 400 Bad Request\r\n\r\n", "refused", /does not speak STOMP.*HTTP/],
    ["TLS", Buffer.from([21, 3, 1, 0, 2, 2, 80]).toString("latin1"), "refused", /does not speak STOMP/],
    ["SSH", "SSH-2.0-OpenSSH_9\r\n", "refused", /does not speak STOMP/],
    ["ERROR", "ERROR\nmessage:denied\n\nnot you\0", "refused", /as "me".*denied: not you/],
    ["an old version", "CONNECTED\nversion:1.1\n\n\0", "refused", /STOMP 1\.1, not 1\.2/],
    ["half a frame", "CONNEC", "timeout", /within 500 ms/],
    ["a frame that never ends", `CONNECTED\n${"x".repeat(2 << 20)}`, "refused", /does not speak STOMP/],
  ])("%s", async (_, text, reason, message) => {
    answer = text
    const error = await failure()
    expect(error).toMatchObject({ reason, message: expect.stringMatching(message) })
    expect(JSON.stringify(error)).not.toContain("s3cret")
  })

  it("an end", async () => {
    answer = undefined
    server.on("connection", (socket) => socket.destroy())
    expect(await failure()).toMatchObject({ reason: "unreachable" })
  })
})

describe("afterwards", () => {
  it.each([
    ["a frame that is none", "NONSENSE\n\n\0"],
    ["a broken frame", "RECEIPT\nreceipt\n\n\0"],
    ["a length that is none", "MESSAGE\ncontent-length:many\n\n\0"],
    ["a second CONNECTED", CONNECTED],
    ["bytes", "\u0001\u0002\0\0"],
  ])("%s ends the connection as an error", async (_, text) => {
    const { connection } = await open()
    const outcome = settled(connection, [outgoing(), outgoing()])
    peer?.write(text)
    expect(await Effect.runPromise(connection.ended)).toMatchObject({ reason: "error" })
    expect(await outcome).toEqual([{ _tag: "Lost" }, { _tag: "Lost" }])
  })

  it("receipts and messages for nobody change nothing", async () => {
    const { connection } = await open()
    const outcome = settled(connection, [outgoing()])
    peer?.write(
      "RECEIPT\nreceipt-id:99\n\n\0RECEIPT\n\n\0RECEIPT\nreceipt-id:__proto__\n\n\0MESSAGE\nsubscription:x\n\nb\0",
    )
    peer?.write("RECEIPT\nreceipt-id:1\n\n\0RECEIPT\nreceipt-id:1\n\n\0")
    expect(await outcome).toEqual([{ _tag: "Confirmed" }])
  })

  it("an ERROR with a receipt-id is about that message, and nothing later on the connection is trusted", async () => {
    const { connection } = await open()
    const outcome = settled(connection, [outgoing(), outgoing(), outgoing()])
    peer?.write("ERROR\nreceipt-id:2\nmessage:not now\n\n\0RECEIPT\nreceipt-id:3\n\n\0")
    expect(await outcome).toEqual([
      { _tag: "Lost" },
      { _tag: "Refused", scope: "attempt", words: "not now" },
      { _tag: "Lost" },
    ])
    expect((await Effect.runPromise(connection.ended)).reason).toBe("error")
  })

  it("an ERROR that names nobody waits for the one that does", async () => {
    const { connection } = await open()
    const outcome = settled(connection, [outgoing({ destination: "/exchange/x/k" }), outgoing(), outgoing()])
    peer?.write("ERROR\nmessage:Processing error\n\nProcessing error\0")
    await new Promise((resolve) => setTimeout(resolve, 50))
    peer?.write("ERROR\nmessage:not_found\n\nNOT_FOUND - no exchange 'x' in vhost '/'\0")
    expect((await outcome).map(({ _tag }) => _tag)).toEqual(["Refused", "Lost", "Lost"])
  })

  it("after an ERROR that names nobody nothing more is sent: it could pass what was refused", async () => {
    const { connection } = await open()
    const outcome = settled(connection, [outgoing(), outgoing()])
    peer?.write("ERROR\nmessage:Processing error\n\n\0")
    await new Promise((resolve) => setTimeout(resolve, 50))
    received = ""
    expect(await settled(connection, [outgoing()])).toEqual([{ _tag: "Lost" }])
    expect((await outcome).map(({ _tag }) => _tag)).toEqual(["Lost", "Lost"])
    expect(received).toBe("")
  })

  it("an ERROR that names nobody ends the connection when no other follows", async () => {
    const { connection } = await open()
    const outcome = settled(connection, [outgoing(), outgoing()])
    peer?.write("ERROR\nmessage:Processing error\n\n\0")
    expect(await Effect.runPromise(connection.ended)).toEqual({ reason: "error", words: "Processing error" })
    expect((await outcome).map(({ _tag }) => _tag)).toEqual(["Lost", "Lost"])
  })

  it("an end in mid-flight is an outage, unless a very large frame was on its way", async () => {
    const first = await open()
    const small = settled(first.connection, [outgoing({ body: "x" })])
    peer?.destroy()
    expect((await Effect.runPromise(first.connection.ended)).reason).toBe("outage")
    expect(await small).toEqual([{ _tag: "Lost" }])
    received = ""
    const second = await open()
    const large = settled(second.connection, [outgoing({ body: "x".repeat(5 << 20) })])
    peer?.destroy()
    expect(await Effect.runPromise(second.connection.ended)).toMatchObject({
      reason: "error",
      words: expect.stringContaining("5242880 bytes"),
    })
    expect(await large).toEqual([{ _tag: "Lost" }])
  })

  it("takes no more than one write at a time, and all frames of a turn in it", async () => {
    const { connection } = await open()
    const chunks: Array<number> = []
    peer?.on("data", (bytes) => chunks.push(bytes.length))
    for (let batch = 0; batch < 10; batch++) connection.send([outgoing(), outgoing()], () => {})
    await new Promise((resolve) => setTimeout(resolve, 100))
    expect(chunks).toHaveLength(1)
    expect(connection.buffered()).toBe(0)
  })
})

describe("an ActiveMQ's transactions", () => {
  beforeEach(() => {
    answer = CONNECTED.replace("RabbitMQ/3.10.8", "ActiveMQ/5.17.2")
  })
  const frames = () =>
    received
      .split("\0")
      .map((frame) => frame.trimStart())
      .filter((frame) => frame !== "" && !frame.startsWith("CONNECT\n"))
      .map((frame) => [
        frame.split("\n", 1)[0],
        /^transaction:(.*)$/m.exec(frame)?.[1],
        /^receipt:(.*)$/m.exec(frame)?.[1],
      ])
  const begun = async () => {
    const { connection } = await open()
    const settlements: Array<string> = []
    connection.send([outgoing(), outgoing({ destination: "/queue/secret" }), outgoing()], (index, { _tag }) =>
      settlements.push(`${index} ${_tag}`),
    )
    await eventually(() =>
      expect(frames()).toEqual([
        ["BEGIN", "1", undefined],
        ["SEND", "1", undefined],
        ["SEND", "1", undefined],
        ["SEND", "1", undefined],
        ["COMMIT", "1", "1"],
      ]),
    )
    return { connection, settlements }
  }
  const receipts = (...ids: ReadonlyArray<number>) =>
    peer?.write(ids.map((id) => `RECEIPT\nreceipt-id:${id}\n\n\0`).join(""))

  it("confirm their messages at once", async () => {
    const { settlements } = await begun()
    receipts(1)
    await eventually(() => expect(settlements).toEqual(["0 Confirmed", "1 Confirmed", "2 Confirmed"]))
  })

  it("that fail over one message name it, and keep nothing of the others", async () => {
    const { settlements, connection } = await begun()
    peer?.write(
      "ERROR\nmessage:User u is not authorized to write to: queue://secret\n\n\0ERROR\nreceipt-id:1\nmessage:COMMIT FAILED\n\n\0",
    )
    expect((await Effect.runPromise(connection.ended)).reason).toBe("error")
    expect(settlements.toSorted()).toEqual(["0 Lost", "1 Refused", "2 Lost"])
  })

  it("that fail leave all of them unknown", async () => {
    const { settlements, connection } = await begun()
    peer?.write("ERROR\nreceipt-id:1\nmessage:disk full\n\n\0")
    expect(await Effect.runPromise(connection.ended)).toEqual({ reason: "error", words: "disk full" })
    expect(settlements).toEqual(["0 Lost", "1 Lost", "2 Lost"])
  })

  it("are none for one message", async () => {
    const { connection } = await open()
    connection.send([outgoing()], () => {})
    await eventually(() => expect(frames()).toEqual([["SEND", undefined, "1"]]))
  })
})

describe("silence", () => {
  it("is an end after twice the interval, counted from the last byte", async () => {
    answer = CONNECTED.replace("heart-beat:0,0", "heart-beat:300,0")
    const { port } = server.address() as { port: number }
    const { open, closeAll } = connector(
      layerStomp({ url: `stomp://127.0.0.1:${port}`, heartbeat: "300 millis" }),
    )
    closes.push(closeAll)
    const { connection } = await open()
    expect(connection.lingerMillis).toBe(Number.POSITIVE_INFINITY)
    await new Promise((resolve) => setTimeout(resolve, 450))
    peer?.write("\n")
    const last = performance.now()
    expect(await Effect.runPromise(connection.ended)).toMatchObject({ reason: "outage" })
    expect(performance.now() - last).toBeGreaterThan(580)
    expect(performance.now() - last).toBeLessThan(800)
  })
})
