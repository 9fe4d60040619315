/** A TCP socket for stompjs, as one would write it who wants it fast. */
import { connect } from "node:net"
import { type IStompSocket, StompSocketState } from "@stomp/stompjs"

/** Writes the frames of one turn of the event loop at once, one write at a time. */
export const gatheringSocket = (host: string, port: number): IStompSocket => {
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
