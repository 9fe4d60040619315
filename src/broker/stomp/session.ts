/**
 * A STOMP session: one stompjs client on one wire.
 *
 * stompjs makes the handshake and says DISCONNECT; it never reconnects. SEND, ACK and what the broker answers go past it,
 * through `frame.ts` and `parser.ts`: it formats each frame twice for its `debug`, and its parser is wrong about escapes.
 * Heart-beats are ours (`heartbeat.ts`): it finds silence only within three times the interval.
 */
import { Client, type IStompSocket, StompSocketState, Versions } from "@stomp/stompjs"
import * as Redacted from "effect/Redacted"
import type { Endpoint } from "./endpoint.ts"
import { agreed, type Heartbeat, startHeartbeat, termsFor } from "./heartbeat.ts"
import { type Frame, makeParser, ProtocolError } from "./parser.ts"
import { isWebSocket, openWire, type TlsOptions } from "./wire.ts"
import { makeWriteQueue } from "./write-queue.ts"

export interface SessionOptions {
  readonly tls: TlsOptions
  /** Milliseconds; 0 asks for none. */
  readonly heartbeat: number
}

/** What a session is for. */
export interface Purpose {
  /** It receives, and sends little but acknowledgements. */
  readonly subscribes: boolean
  /** `client-id` of CONNECT. */
  readonly clientId: string | undefined
}

/** Why a session ended: by its socket, by silence, by bytes that are no STOMP. */
export type SessionEnd =
  | { readonly _tag: "socket"; readonly error: Error | undefined; readonly said: string | undefined }
  | { readonly _tag: "silent"; readonly milliseconds: number }
  | { readonly _tag: "garbage"; readonly words: string }

export interface SessionEvents {
  /** Every frame but the answer to DISCONNECT, and the receipts of plain numbers. */
  readonly onFrame: (frame: Frame) => void
  readonly onReceipt: (receipt: number) => void
  /** For how many milliseconds what comes next may be gathered; 0 where somebody waits for it. */
  readonly gatherMillis: () => number
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

export const openSession = (
  endpoint: Endpoint,
  options: SessionOptions,
  { subscribes, clientId }: Purpose,
  events: SessionEvents,
): Session => {
  // Over WebSocket, who publishes promises none, but sends its pings: RabbitMQ 3.10's web_stomp kills its watch over
  // them, and the connection with it, as soon as its flow control has set in once ({unexpected_message,resume}).
  const wanted = {
    ...termsFor(options.heartbeat),
    ...(isWebSocket(endpoint) && !subscribes && { promised: 0 }),
  }
  let ended = false
  let connected = false
  let heartbeat: Heartbeat | undefined
  let first = ""

  const end = (how: SessionEnd) => {
    if (ended) return
    close()
    events.onEnd(how)
  }
  const close = () => {
    if (ended) return
    ended = true
    heartbeat?.stop()
    queue.close()
    wire.destroy()
    socket.closed()
    void client.deactivate({ force: true })
  }
  const receive = (frame: Frame) => {
    if (ended) return
    if (frame.command === "CONNECTED") {
      if (connected) return events.onFrame(frame)
      connected = true
      heartbeat = startHeartbeat(
        agreed(wanted, frame),
        // Whatever waits is a sign of life as good as a heart-beat.
        () => queue.size() === 0 && queue.push("\n"),
        (milliseconds) => end({ _tag: "silent", milliseconds }),
      )
      socket.feed({ ...frame, headers: { ...frame.headers, "heart-beat": "0,0" } })
    } else if (frame.command === "RECEIPT" && frame.headers["receipt-id"]?.startsWith("close-")) {
      socket.feed(frame)
      return
    }
    events.onFrame(frame)
  }
  const parse = makeParser(receive, (receipt) => {
    if (!ended) events.onReceipt(receipt)
  })
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
      heartbeat?.alive()
      parse(bytes)
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error
      end({ _tag: "garbage", words: error.message })
    }
  }

  const wire = openWire(endpoint, options.tls, options.heartbeat, {
    onOpen: () => socket.opened(),
    onData,
    gatherMillis: events.gatherMillis,
    onClose: (error, said) => end({ _tag: "socket", error, said }),
  })
  const queue = makeWriteQueue(wire.write)
  const socket = makeStompSocket(endpoint.label, {
    send: queue.push,
    close: () => wire.end(),
    terminate: () => end({ _tag: "socket", error: undefined, said: undefined }),
  })
  const client = new Client({
    webSocketFactory: () => socket,
    stompVersions: new Versions([Versions.V1_2]),
    connectHeaders: {
      host: endpoint.virtualHost ?? "/",
      ...(clientId !== undefined && { "client-id": clientId }),
      ...(endpoint.login !== undefined && { login: endpoint.login }),
      ...(endpoint.passcode !== undefined && { passcode: Redacted.value(endpoint.passcode) }),
    },
    reconnectDelay: 0,
    heartbeatIncoming: wanted.expected,
    heartbeatOutgoing: wanted.promised,
    discardWebsocketOnCommFailure: true,
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
    feed: ({ command, headers }) => {
      let text = `${command}\n`
      for (const name in headers) text += `${name}:${headers[name]}\n`
      socket.onmessage?.({ data: `${text}\n\0` })
    },
  }
  return socket
}
