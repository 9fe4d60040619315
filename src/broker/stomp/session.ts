/**
 * A STOMP session: one stompjs client on one wire.
 *
 * stompjs makes the handshake, sends and watches heart-beats and says DISCONNECT; it never reconnects. SEND, ACK and what
 * the broker answers go past it, through `frame.ts` and `parser.ts`: it formats each frame twice for its `debug`, and
 * its parser is wrong about escapes.
 */
import { Client, type IStompSocket, StompSocketState, Versions } from "@stomp/stompjs"
import { Redacted } from "effect"
import type { Endpoint } from "./endpoint.ts"
import { type Frame, makeParser, ProtocolError } from "./parser.ts"
import { isWebSocket, openWire, type TlsOptions } from "./wire.ts"
import { makeWriteQueue } from "./write-queue.ts"

export interface SessionOptions {
  readonly tls: TlsOptions
  /** Milliseconds; 0 asks for none. */
  readonly heartbeat: number
}

/** Why a session ended: by its socket, by silence, by bytes that are no STOMP. */
export type SessionEnd =
  | { readonly _tag: "socket"; readonly error: Error | undefined; readonly said: string | undefined }
  | { readonly _tag: "silent"; readonly milliseconds: number }
  | { readonly _tag: "garbage"; readonly words: string }

export interface SessionEvents {
  /** Every frame but the answer to DISCONNECT. */
  readonly onFrame: (frame: Frame) => void
  /** Once. */
  readonly onEnd: (end: SessionEnd) => void
}

export interface Session {
  readonly write: (frame: string | Uint8Array) => void
  readonly buffered: () => number
  /** Says DISCONNECT and resolves when the broker has answered and the socket is closed, which may be never. */
  readonly disconnect: () => Promise<void>
  /** Ends at once; nothing that waits is sent and no event follows. */
  readonly destroy: () => void
}

/** What a peer that speaks STOMP may begin with. */
const beginnings = ["CONNECTED", "ERROR"]

export const openSession = (endpoint: Endpoint, options: SessionOptions, events: SessionEvents): Session => {
  let ended = false
  let connected = false
  let silent = false
  let silence = 2 * options.heartbeat
  let first = ""

  const end = (how: SessionEnd) => {
    if (ended) return
    close()
    events.onEnd(how)
  }
  const close = () => {
    if (ended) return
    ended = true
    queue.close()
    wire.destroy()
    socket.closed()
    void client.deactivate({ force: true })
  }
  const receive = (frame: Frame) => {
    if (ended) return
    if (frame.command === "CONNECTED") {
      connected = true
      // The broker may promise less than it was asked for; stompjs waits for twice what it promised.
      silence = 2 * Math.max(options.heartbeat, Number(frame.headers["heart-beat"]?.split(",")[0]) || 0)
      socket.feed(frame)
    } else if (frame.command === "RECEIPT" && frame.headers["receipt-id"]?.startsWith("close-")) {
      socket.feed(frame)
      return
    }
    events.onFrame(frame)
  }
  const parse = makeParser(receive)
  const onData = (bytes: Buffer) => {
    if (ended) return
    if (!connected && first.length < 64) {
      first += bytes.toString("latin1", 0, 64)
      const start = first.trimStart()
      if (!beginnings.some((word) => word.startsWith(start.slice(0, word.length)))) {
        return end({ _tag: "garbage", words: printable(start) })
      }
    }
    try {
      socket.alive()
      parse(bytes)
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error
      end({ _tag: "garbage", words: error.message })
    }
  }

  const wire = openWire(endpoint, options.tls, options.heartbeat, {
    onOpen: () => socket.opened(),
    onData,
    onClose: (error, said) => end({ _tag: "socket", error, said }),
  })
  const queue = makeWriteQueue(wire.write)
  const socket = makeStompSocket(endpoint.label, {
    // Whatever waits is a sign of life as good as a heart-beat.
    send: (text) => {
      if (text !== "\n" || queue.size() === 0) queue.push(text)
    },
    close: () => wire.end(),
    terminate: () =>
      end(
        silent
          ? { _tag: "silent", milliseconds: silence }
          : { _tag: "socket", error: undefined, said: undefined },
      ),
  })
  const client = new Client({
    webSocketFactory: () => socket,
    stompVersions: new Versions([Versions.V1_2]),
    connectHeaders: {
      host: endpoint.virtualHost ?? "/",
      ...(endpoint.login !== undefined && { login: endpoint.login }),
      ...(endpoint.passcode !== undefined && { passcode: Redacted.value(endpoint.passcode) }),
    },
    reconnectDelay: 0,
    heartbeatIncoming: options.heartbeat,
    // Over WebSocket none are promised, but sent as its pings: RabbitMQ 3.10's web_stomp kills its watch over them, and
    // the connection with it, as soon as its flow control has set in once ({unexpected_message,resume}).
    heartbeatOutgoing: isWebSocket(endpoint) ? 0 : options.heartbeat,
    discardWebsocketOnCommFailure: true,
    onHeartbeatLost: () => {
      silent = true
    },
  })
  client.activate()

  return {
    write: queue.push,
    buffered: queue.size,
    disconnect: () => client.deactivate(),
    destroy: close,
  }
}

const printable = (text: string) => JSON.stringify(text.slice(0, 40))

interface StompSocket extends IStompSocket {
  readonly opened: () => void
  readonly closed: () => void
  /** Something was received: the watch for heart-beats starts again. */
  readonly alive: () => void
  readonly feed: (frame: Frame) => void
}

/** What stompjs takes for its WebSocket. */
const makeStompSocket = (
  url: string,
  calls: {
    readonly send: (text: string) => void
    readonly close: () => void
    readonly terminate: () => void
  },
): StompSocket => {
  let state: StompSocketState = StompSocketState.CONNECTING
  const socket: StompSocket = {
    url,
    onopen: undefined,
    onclose: undefined,
    onerror: undefined,
    onmessage: undefined,
    get readyState() {
      return state
    },
    send: (data) => calls.send(data as string),
    close: calls.close,
    terminate: calls.terminate,
    opened: () => {
      state = StompSocketState.OPEN
      socket.onopen?.()
    },
    closed: () => {
      if (state === StompSocketState.CLOSED) return
      state = StompSocketState.CLOSED
      socket.onclose?.({ code: 1000, reason: "", wasClean: true })
    },
    alive: () => socket.onmessage?.({ data: "\n" }),
    feed: ({ command, headers }) => {
      let text = `${command}\n`
      for (const name in headers) text += `${name}:${headers[name]}\n`
      socket.onmessage?.({ data: `${text}\n\0` })
    },
  }
  return socket
}
