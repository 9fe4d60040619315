/** A STOMP 1.2 client of its own, from the specification and a socket: what it sees is what really arrived. */
import { connect } from "node:net"

export interface RawFrame {
  readonly command: string
  readonly headers: Readonly<Record<string, string>>
  readonly body: Buffer
}

export interface RawClient {
  readonly connected: RawFrame
  /** Every frame after CONNECTED, in order. */
  readonly frames: ReadonlyArray<RawFrame>
  /** Writes one frame, as given: `content-length` is added, nothing else. */
  readonly frame: (
    command: string,
    headers: Readonly<Record<string, string>>,
    body?: string | Uint8Array,
  ) => void
  /** Writes bytes as they are. */
  readonly write: (bytes: string | Uint8Array) => void
  /** Sends and waits for the receipt; rejects with the words of an ERROR. */
  readonly send: (
    destination: string,
    body: string | Uint8Array,
    headers?: Readonly<Record<string, string>>,
  ) => Promise<void>
  /** Resolves when the subscription is known to exist. */
  readonly subscribe: (
    destination: string,
    onMessage: (message: RawFrame, ack: () => void) => void,
    headers?: Readonly<Record<string, string>>,
  ) => Promise<void>
  readonly closed: Promise<void>
  readonly close: () => void
}

const unescaped: Readonly<Record<string, string>> = { r: "\r", n: "\n", c: ":", "\\": "\\" }
const escaped = (text: string) =>
  text.replace(/[\\\r\n:]/g, (c) => `\\${c === "\\" ? "\\" : c === "\r" ? "r" : c === "\n" ? "n" : "c"}`)

/** Connects to `stomp://user:password@host:port`; `headers` are added to CONNECT. */
export const rawStomp = async (
  url: string,
  headers: Readonly<Record<string, string>> = {},
): Promise<RawClient> => {
  const { hostname, port, username, password } = new URL(url.replace(/^stomp:/, "http:"))
  const socket = connect({ host: hostname, port: Number(port || 61613) })
  const frames: Array<RawFrame> = []
  const consumers = new Map<string, (frame: RawFrame) => void>()
  const receipts = new Map<string, { resolve: () => void; reject: (error: Error) => void }>()
  let buffer: Buffer = Buffer.alloc(0)
  let connected: RawFrame | undefined
  let counter = 0
  let onFirst: (frame: RawFrame) => void = () => {}

  const write = (bytes: string | Uint8Array) => void socket.write(bytes)
  const frame: RawClient["frame"] = (command, fields, body = "") => {
    const bytes = Buffer.from(body)
    const lines = Object.entries({ ...fields, "content-length": String(bytes.length) }).map(
      ([name, value]) => (command === "CONNECT" ? `${name}:${value}` : `${escaped(name)}:${escaped(value)}`),
    )
    write(Buffer.concat([Buffer.from(`${command}\n${lines.join("\n")}\n\n`), bytes, Buffer.from([0])]))
  }
  const waitFor = (receipt: string) =>
    new Promise<void>((resolve, reject) => {
      receipts.set(receipt, { resolve, reject })
    })
  const take = (received: RawFrame) => {
    if (connected === undefined) {
      connected = received
      onFirst(received)
      return
    }
    frames.push(received)
    const receipt = receipts.get(received.headers["receipt-id"] ?? "")
    if (received.command === "RECEIPT") receipt?.resolve()
    if (received.command === "ERROR")
      receipt?.reject(new Error(received.body.toString() || received.headers["message"]))
    if (received.command === "MESSAGE") consumers.get(received.headers["subscription"] ?? "")?.(received)
  }
  const parse = () => {
    for (;;) {
      while (buffer[0] === 10 || buffer[0] === 13) buffer = buffer.subarray(1)
      const end = buffer.indexOf("\n\n")
      if (end < 0) return
      const [command = "", ...lines] = buffer.subarray(0, end).toString().split("\n")
      const pairs = lines.map((line) => {
        const colon = line.indexOf(":")
        return [line.slice(0, colon), line.slice(colon + 1)].map((text) =>
          text.replace(/\\([rnc\\])/g, (_, c: string) => unescaped[c] as string),
        ) as [string, string]
      })
      // Of a repeated header the first counts; and "__proto__" is a name like any other.
      const fields: Record<string, string> = Object.fromEntries(pairs.reverse())
      const start = end + 2
      const length = fields["content-length"]
      const stop = length === undefined ? buffer.indexOf(0, start) : start + Number(length)
      if (stop < 0 || buffer.length <= stop) return
      const body = Buffer.from(buffer.subarray(start, stop))
      buffer = buffer.subarray(stop + 1)
      take({ command, headers: fields, body })
    }
  }
  socket.on("data", (chunk) => {
    buffer = buffer.length === 0 ? chunk : Buffer.concat([buffer, chunk])
    parse()
  })
  const closed = new Promise<void>((resolve) => {
    socket.once("close", () => {
      for (const { reject } of receipts.values()) reject(new Error("connection closed"))
      resolve()
    })
  })
  const first = await new Promise<RawFrame>((resolve, reject) => {
    onFirst = resolve
    socket.once("error", reject)
    socket.once("close", () => reject(new Error("closed before CONNECTED")))
    frame("CONNECT", {
      "accept-version": "1.2",
      host: "/",
      login: decodeURIComponent(username),
      passcode: decodeURIComponent(password),
      "heart-beat": "0,0",
      ...headers,
    })
  })
  socket.on("error", () => {})
  if (first.command !== "CONNECTED") throw new Error(`${first.headers["message"]}: ${first.body}`)
  return {
    connected: first,
    frames,
    frame,
    write,
    send: (destination, body, fields = {}) => {
      const receipt = `send-${counter++}`
      const received = waitFor(receipt)
      frame("SEND", { destination, receipt, persistent: "true", ...fields }, body)
      return received
    },
    subscribe: (destination, onMessage, fields = {}) => {
      const id = `sub-${counter++}`
      consumers.set(id, (message) =>
        onMessage(message, () => frame("ACK", { id: message.headers["ack"] ?? "" })),
      )
      const received = waitFor(id)
      frame("SUBSCRIBE", { destination, id, receipt: id, ack: "client-individual", ...fields })
      return received
    },
    closed,
    close: () => void socket.destroy(),
  }
}
