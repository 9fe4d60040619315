/** A TCP or TLS proxy before a server, whose network can fail. */
import { connect, createServer, type Socket } from "node:net"
import { createServer as createTlsServer, type TlsOptions } from "node:tls"

/** From the client to the server, or back. */
export type Way = "up" | "down"

/** What one connection carries. */
export interface Tap {
  /** The client has sent this. */
  readonly up: (bytes: Buffer) => void
  /** The client has been passed this. */
  readonly down: (bytes: Buffer) => void
  /** The client has gone, or is cut off. */
  readonly end: () => void
}

export interface Proxy {
  readonly port: number
  /** Swallows everything, both ways, and closes nothing. */
  readonly swallow: () => void
  /** Stops reading from clients, so that what they send piles up on their side. */
  readonly pause: () => void
  /**
   * Passes nothing on, as a network that retransmits and does not get through. Nothing is lost as long as the other side
   * waits; what a client had sent before it gave up still arrives.
   */
  readonly hold: (...ways: ReadonlyArray<Way>) => void
  /** Ends a pause, and lets go what was held. */
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
  readonly tls?: TlsOptions
  /** Called for every connection. */
  readonly tap?: () => Tap
}

/** Forwards to `port` of 127.0.0.1. */
export const startProxy = async (port: number, { tls, tap }: ProxyOptions = {}): Promise<Proxy> => {
  const links = new Set<Link>()
  const state: State = {
    paused: false,
    held: new Set(),
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
    const up = makePipe(client, broker, state, "up")
    const down = makePipe(broker, client, state, "down", (bytes) => tapped?.down(bytes))
    const link: Link = {
      pipes: [up, down],
      reset: () => {
        for (const socket of [client, broker])
          if ("encrypted" in socket) socket.destroy()
          else socket.resetAndDestroy()
      },
    }
    client.on("data", (bytes) => {
      received += bytes.length
      tapped?.up(bytes)
    })
    links.add(link)
    client.once("close", () => tapped?.end())
    broker.on("error", () => {})
    client.once("close", () => up.close())
    broker.once("close", () => down.close())
    // What is held for the side that is left is let go later.
    let closed = 0
    for (const socket of [client, broker])
      socket.once("close", () => {
        closed++
        if (closed === 2) links.delete(link)
      })
  }
  const server = tls === undefined ? createServer(onClient) : createTlsServer(tls, onClient)
  server.on("tlsClientError", () => {})
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  const reset = () => {
    for (const link of links) link.reset()
  }
  const each = (apply: (pipe: Pipe) => void) => {
    for (const { pipes } of links) for (const pipe of pipes) apply(pipe)
  }
  return {
    port: (server.address() as { port: number }).port,
    swallow: () => {
      state.swallowing = true
    },
    pause: () => {
      state.paused = true
      each((pipe) => pipe.update())
    },
    hold: (...ways) => {
      for (const way of ways) state.held.add(way)
    },
    resume: () => {
      state.paused = false
      state.held.clear()
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
  readonly pipes: ReadonlyArray<Pipe>
  readonly reset: () => void
}

interface State {
  paused: boolean
  readonly held: Set<Way>
  swallowing: boolean
  bytesPerSecond: number
  delay: number
  /** Bytes of clients until `cut`. */
  left: number
  cut: () => void
}

interface Pipe {
  /** Looks again whether it may read, and pass on. */
  readonly update: () => void
  /** No more comes: the other end closes when what there is has been passed on. */
  readonly close: () => void
}

/** Bytes passed on at once where it goes slowly. */
const SLOW_PIECE = 1024

/** One way of one connection. */
const makePipe = (
  from: Socket,
  to: Socket,
  state: State,
  way: Way,
  onPassed?: (bytes: Buffer) => void,
): Pipe => {
  const queue: Buffer[] = []
  let busy = false
  let closed = false
  const pass = (bytes: Buffer) => {
    if (state.swallowing || to.destroyed) return
    const part = way === "up" && bytes.length > state.left ? bytes.subarray(0, state.left) : bytes
    if (way === "up") state.left -= part.length
    onPassed?.(part)
    const cut = way === "up" && state.left <= 0 ? state.cut : undefined
    to.write(part, () => cut?.())
  }
  const next = () => {
    if (busy || state.held.has(way)) return
    const bytes = queue.shift()
    if (bytes === undefined) {
      if (closed && !state.swallowing) to.destroySoon()
      return
    }
    const millis = (way === "up" ? (bytes.length / state.bytesPerSecond) * 1000 : 0) + state.delay
    if (millis === 0) {
      pass(bytes)
      next()
      return
    }
    busy = true
    setTimeout(() => {
      busy = false
      pass(bytes)
      next()
    }, millis)
  }
  const update = () => {
    if (way === "up" && state.paused) from.pause()
    else from.resume()
    next()
  }
  from.on("data", (bytes) => {
    // A piece takes its time, and a throttle that ends is over with the next.
    const most = way === "up" && state.bytesPerSecond < Number.POSITIVE_INFINITY ? SLOW_PIECE : bytes.length
    for (let at = 0; at < bytes.length; at += most) queue.push(bytes.subarray(at, at + most))
    next()
  })
  update()
  return {
    update,
    close: () => {
      closed = true
      next()
    },
  }
}
