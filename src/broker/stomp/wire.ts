/** Bytes to and from a broker: TCP, TLS or WebSocket. */
import { connect as connectTcp, isIP, type OnReadOpts, type Socket } from "node:net"
import { connect as connectTls } from "node:tls"
import { WebSocket } from "ws"
import type { Endpoint } from "./endpoint.ts"

/** PEM texts, or buffers of them. */
type Pem = string | Buffer | Array<string | Buffer>

/** How `stomps` and `wss` prove who is who. */
export interface TlsOptions {
  /** Authorities trusted instead of the system's. */
  readonly ca?: Pem
  /** Certificate and key by which the broker knows this client. */
  readonly cert?: Pem
  readonly key?: Pem
  /** The name that the broker's certificate must carry, where it is not the host of the URL. */
  readonly servername?: string
  /** Default true. False takes any certificate: whoever sits in between reads and changes everything. */
  readonly rejectUnauthorized?: boolean
}

export interface WireEvents {
  readonly onOpen: () => void
  readonly onData: (bytes: Buffer) => void
  /** For how many milliseconds what comes next may be gathered; 0 where somebody waits for it. */
  readonly gatherMillis: () => number
  /** Once, at the end; with the error that ended it and what the peer said of it, if any. */
  readonly onClose: (error: Error | undefined, said: string | undefined) => void
}

/** A read takes so many bytes at the most. */
const READ_BYTES = 64 * 1024

export interface Wire {
  readonly write: (bytes: Uint8Array, done: () => void) => void
  /** Sends what was written, then closes. */
  readonly end: () => void
  /** Closes now: TCP by a reset, by which the kernel drops even what it has not sent. */
  readonly destroy: () => void
}

/** `pingEvery`: milliseconds between pings of a WebSocket, 0 for none. */
export const openWire = (endpoint: Endpoint, tls: TlsOptions, pingEvery: number, events: WireEvents): Wire =>
  isWebSocket(endpoint) ? openWebSocket(endpoint, tls, pingEvery, events) : openSocket(endpoint, tls, events)

export const isWebSocket = ({ scheme }: Endpoint): boolean => scheme === "ws" || scheme === "wss"

const openSocket = (endpoint: Endpoint, tls: TlsOptions, events: WireEvents): Wire => {
  const { host, port } = endpoint
  const secure = endpoint.scheme === "stomps"
  let gathering = false
  const gather = (millis: number) => {
    gathering = true
    setTimeout(() => {
      gathering = false
      socket.resume()
    }, millis)
  }
  const onread: OnReadOpts = {
    buffer: Buffer.allocUnsafeSlow(READ_BYTES),
    callback: (length: number, buffer: Uint8Array) => {
      // The buffer is used again, and what is made of the bytes are views.
      events.onData(Buffer.from(buffer.subarray(0, length)))
      const millis = events.gatherMillis()
      // Of what TLS has read already each record comes by itself.
      if (millis > 0 && !gathering) gather(millis)
      return !gathering
    },
  }
  const to = { host, port, onread }
  const socket: Socket = secure
    ? connectTls({ servername: isIP(host) === 0 ? host : "", ...tls, ...to })
    : connectTcp(to)
  let failure: Error | undefined
  socket.setNoDelay(true)
  socket.once(secure ? "secureConnect" : "connect", events.onOpen)
  socket.on("error", (error) => {
    failure ??= error
  })
  socket.once("close", () => events.onClose(failure, undefined))
  return {
    write: (bytes, done) => void socket.write(bytes, () => done()),
    end: () => void socket.end(),
    destroy: () => {
      if (socket.connecting) socket.destroy()
      else socket.resetAndDestroy()
    },
  }
}

const openWebSocket = (endpoint: Endpoint, tls: TlsOptions, pingEvery: number, events: WireEvents): Wire => {
  // The label has no login in it: the password belongs into CONNECT, not into an HTTP header.
  const socket = new WebSocket(endpoint.label, ["v12.stomp"], {
    ...tls,
    perMessageDeflate: false,
    // RabbitMQ sends bodies of any bytes in text messages.
    skipUTF8Validation: true,
  })
  let failure: Error | undefined
  let pinging: NodeJS.Timeout | undefined
  socket.once("open", () => {
    if (pingEvery > 0) pinging = setInterval(() => socket.ping(), pingEvery)
    events.onOpen()
  })
  socket.on("message", (data: Buffer) => events.onData(data))
  socket.on("error", (error) => {
    failure ??= error
  })
  socket.once("close", (_code, said) => {
    clearInterval(pinging)
    events.onClose(failure, said.length === 0 ? undefined : said.toString())
  })
  return {
    write: (bytes, done) => socket.send(bytes, { binary: true }, () => done()),
    end: () => socket.close(),
    destroy: () => {
      clearInterval(pinging)
      socket.terminate()
    },
  }
}
