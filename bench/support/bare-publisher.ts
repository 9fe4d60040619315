/** What a careful user would write by hand: a stompjs client that sends a window of frames and waits for their receipts. */
import { connect } from "node:net"
import { Client, type IStompSocket, StompSocketState } from "@stomp/stompjs"

export interface Frame {
  readonly destination: string
  readonly headers: Readonly<Record<string, string>>
  readonly body: string
}

/** Publishes everything with a receipt each, at most `window` unconfirmed, and gives the rate per second. */
export const publishBare = async (
  url: string,
  frames: ReadonlyArray<Frame>,
  window: number,
): Promise<number> => {
  const { hostname, port, username, password } = new URL(url)
  const client = new Client({
    webSocketFactory: () => gatheringSocket(hostname, Number(port)),
    connectHeaders: { login: username, passcode: password, host: "/" },
    reconnectDelay: 0,
    heartbeatIncoming: 10_000,
    heartbeatOutgoing: 10_000,
  })
  await new Promise<void>((resolve, reject) => {
    client.onConnect = () => resolve()
    client.onStompError = (frame) => reject(new Error(frame.body))
    client.activate()
  })
  const started = performance.now()
  await new Promise<void>((resolve) => {
    let sent = 0
    let confirmed = 0
    const fill = () => {
      while (sent < frames.length && sent - confirmed < window) {
        const { destination, headers, body } = frames[sent++]!
        const receipt = String(sent)
        client.watchForReceipt(receipt, onReceipt)
        client.publish({
          destination,
          headers: {
            receipt,
            persistent: "true",
            "content-length": String(Buffer.byteLength(body)),
            ...headers,
          },
          body,
          skipContentLengthHeader: true,
        })
      }
    }
    const onReceipt = () => {
      confirmed++
      if (confirmed === frames.length) resolve()
      else fill()
    }
    fill()
  })
  const rate = (frames.length / (performance.now() - started)) * 1000
  await client.deactivate()
  return rate
}

/** A TCP socket for stompjs that writes the frames of one turn of the event loop at once, one write at a time. */
const gatheringSocket = (host: string, port: number): IStompSocket => {
  const tcp = connect({ host, port })
  tcp.setNoDelay(true)
  tcp.setEncoding("utf8")
  let waiting = ""
  let writing = false
  let scheduled = false
  const flush = () => {
    scheduled = false
    if (writing || waiting === "") return
    const text = waiting
    waiting = ""
    writing = true
    tcp.write(text, () => {
      writing = false
      flush()
    })
  }
  const socket: IStompSocket = {
    url: `stomp://${host}:${port}`,
    onopen: undefined,
    onclose: undefined,
    onerror: undefined,
    onmessage: undefined,
    readyState: StompSocketState.CONNECTING,
    send: (data) => {
      waiting += data as string
      if (scheduled) return
      scheduled = true
      setImmediate(flush)
    },
    close: () => tcp.end(),
  }
  tcp.on("connect", () => {
    Object.assign(socket, { readyState: StompSocketState.OPEN })
    socket.onopen?.()
  })
  tcp.on("data", (data) => socket.onmessage?.({ data: data.toString() }))
  tcp.on("close", () => {
    Object.assign(socket, { readyState: StompSocketState.CLOSED })
    socket.onclose?.({ code: 1000, reason: "", wasClean: true })
  })
  tcp.on("error", (error) => socket.onerror?.(error))
  return socket
}
