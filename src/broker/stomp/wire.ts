/** Bytes to and from a broker: TCP, TLS or WebSocket. */
import { connect as connectTcp, type Socket } from "node:net"
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
  /** Once, at the end; with the error that ended it, if any. */
  readonly onClose: (error: Error | undefined) => void
}

export interface Wire {
  readonly write: (bytes: Uint8Array, done: () => void) => void
  /** Sends what was written, then closes. */
  readonly end: () => void
  /** Closes now: TCP by a reset, by which the kernel drops even what it has not sent. */
  readonly destroy: () => void
}

export const openWire = (endpoint: Endpoint, tls: TlsOptions, events: WireEvents): Wire =>
  endpoint.scheme === "ws" || endpoint.scheme === "wss"
    ? openWebSocket(endpoint, tls, events)
    : openSocket(endpoint, tls, events)

const openSocket = (endpoint: Endpoint, tls: TlsOptions, events: WireEvents): Wire => {
  const { host, port } = endpoint
  const secure = endpoint.scheme === "stomps"
  const socket: Socket = secure
    ? connectTls({ servername: /^[\d.:]+$/.test(host) ? "" : host, ...tls, host, port })
    : connectTcp({ host, port })
  let failure: Error | undefined
  socket.setNoDelay(true)
  socket.once(secure ? "secureConnect" : "connect", events.onOpen)
  socket.on("data", events.onData)
  socket.on("error", (error) => {
    failure ??= error
  })
  socket.once("close", () => events.onClose(failure))
  return {
    write: (bytes, done) => void socket.write(bytes, () => done()),
    end: () => void socket.end(),
    destroy: () => {
      if (socket.connecting) socket.destroy()
      else socket.resetAndDestroy()
    },
  }
}

const openWebSocket = (endpoint: Endpoint, tls: TlsOptions, events: WireEvents): Wire => {
  // The label has no login in it: the password belongs into CONNECT, not into an HTTP header.
  const socket = new WebSocket(endpoint.label, ["v12.stomp"], {
    ...tls,
    perMessageDeflate: false,
    // RabbitMQ sends bodies of any bytes in text messages.
    skipUTF8Validation: true,
  })
  let failure: Error | undefined
  socket.once("open", events.onOpen)
  socket.on("message", (data: Buffer) => events.onData(data))
  socket.on("error", (error) => {
    failure ??= error
  })
  socket.once("close", () => events.onClose(failure))
  return {
    write: (bytes, done) => socket.send(bytes, { binary: true }, () => done()),
    end: () => socket.close(),
    destroy: () => socket.terminate(),
  }
}
