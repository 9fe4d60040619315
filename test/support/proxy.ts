/** A TCP or TLS proxy before a server, whose network can fail. */
import { connect, createServer, type Socket } from "node:net"
import { createServer as createTlsServer } from "node:tls"

/** From the client to the server, or back. */
export type Way = "up" | "down"

/** What goes through one connection, as it is passed on. */
export interface Tap {
  readonly up: (bytes: Buffer) => void
  readonly down: (bytes: Buffer) => void
  /** It is over. */
  readonly end: () => void
}

export interface Proxy {
  readonly port: number
  /** Swallows everything, both ways, and closes nothing. */
  readonly swallow: () => void
  /** Stops passing on, as a network that retransmits and does not get through: nothing is lost as long as the connection lives. */
  readonly pause: (...ways: ReadonlyArray<Way>) => void
  readonly resume: () => void
  /** Resets every connection: what is on its way is lost, on either side. */
  readonly reset: () => void
  /** Passes so many more bytes of clients on, calls `before` and resets every connection, in the middle of whatever it is. Resolves when it has. */
  readonly resetAfter: (bytes: number, before?: () => void) => Promise<void>
  /** New connections are reset at once until told otherwise. */
  readonly refuse: (refusing: boolean) => void
  /** Bytes of clients passed on per second and connection at the most. */
  readonly throttle: (bytesPerSecond: number) => void
  /** Milliseconds that everything takes longer, each way. */
  readonly delay: (millis: number) => void
  /** Bytes received from clients. */
  readonly received: () => number
  readonly close: () => Promise<void>
}

export interface ProxyOptions {
  /** It speaks TLS to its clients. */
  readonly tls?: { readonly cert: string; readonly key: string }
  /** Called for every connection. */
  readonly tap?: () => Tap
}

/** Forwards to `port` of 127.0.0.1. */
export const startProxy = async (port: number, { tls, tap }: ProxyOptions = {}): Promise<Proxy> => {
  const links = new Set<Link>()
  const state: State = {
    paused: new Set(),
    swallowing: false,
    bytesPerSecond: Number.POSITIVE_INFINITY,
    delay: 0,
    left: Number.POSITIVE_INFINITY,
    cut: () => {},
  }
  let refusing = false
  let received = 0
  const onClient = (client: Socket) => {
    client.on("error", () => {})
    if (refusing) return void client.resetAndDestroy()
    const broker = connect({ port, host: "127.0.0.1" })
    const tapped = tap?.()
    const link: Link = {
      up: makePipe(client, broker, state, "up", (bytes) => tapped?.up(bytes)),
      down: makePipe(broker, client, state, "down", (bytes) => tapped?.down(bytes)),
      reset: () => {
        for (const socket of [client, broker])
          if ("encrypted" in socket) socket.destroy()
          else socket.resetAndDestroy()
      },
    }
    client.on("data", (bytes) => {
      received += bytes.length
    })
    links.add(link)
    for (const [one, other] of [
      [client, broker],
      [broker, client],
    ] as const) {
      one.on("error", () => {})
      one.on("close", () => {
        if (links.delete(link)) tapped?.end()
        if (!state.swallowing) other.destroy()
      })
    }
  }
  const server = tls === undefined ? createServer(onClient) : createTlsServer(tls, onClient)
  server.on("tlsClientError", () => {})
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  const reset = () => {
    for (const link of links) link.reset()
  }
  const each = (apply: (pipe: Pipe) => void) => {
    for (const { up, down } of links) for (const pipe of [up, down]) apply(pipe)
  }
  return {
    port: (server.address() as { port: number }).port,
    swallow: () => {
      state.swallowing = true
    },
    pause: (...ways) => {
      for (const way of ways) state.paused.add(way)
      each((pipe) => pipe.update())
    },
    resume: () => {
      state.paused.clear()
      each((pipe) => pipe.update())
    },
    reset,
    resetAfter: (bytes, before) =>
      new Promise((resolve) => {
        state.left = bytes
        state.cut = () => {
          state.left = Number.POSITIVE_INFINITY
          before?.()
          reset()
          resolve()
        }
      }),
    refuse: (value) => {
      refusing = value
    },
    throttle: (bytesPerSecond) => {
      state.bytesPerSecond = bytesPerSecond
    },
    delay: (millis) => {
      state.delay = millis
    },
    received: () => received,
    close: () => {
      reset()
      return new Promise((resolve) => server.close(() => resolve()))
    },
  }
}

interface Link {
  readonly up: Pipe
  readonly down: Pipe
  readonly reset: () => void
}

interface State {
  readonly paused: Set<Way>
  swallowing: boolean
  bytesPerSecond: number
  delay: number
  /** Bytes of clients until `cut`. */
  left: number
  cut: () => void
}

interface Pipe {
  /** Looks again whether it is paused. */
  readonly update: () => void
}

/** One way of one connection. */
const makePipe = (
  from: Socket,
  to: Socket,
  state: State,
  way: Way,
  onBytes: (bytes: Buffer) => void,
): Pipe => {
  /** Passing on takes its time, in order. */
  let waiting = 0
  const pass = (bytes: Buffer) => {
    if (state.swallowing || to.destroyed) return
    const part = way === "up" && bytes.length > state.left ? bytes.subarray(0, state.left) : bytes
    if (way === "up") state.left -= part.length
    onBytes(part)
    const cut = way === "up" && state.left <= 0 ? state.cut : undefined
    to.write(part, () => cut?.())
  }
  const update = () => {
    if (state.paused.has(way) || waiting > 0) from.pause()
    else from.resume()
  }
  from.on("data", (bytes) => {
    const slowly = way === "up" ? (bytes.length / state.bytesPerSecond) * 1000 : 0
    if (slowly + state.delay === 0) return pass(bytes)
    waiting++
    update()
    setTimeout(() => {
      pass(bytes)
      waiting--
      update()
    }, slowly + state.delay)
  })
  update()
  return { update }
}
