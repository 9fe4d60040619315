/** A TCP or TLS proxy before a broker, whose network can fail. */
import { connect, createServer, type Socket } from "node:net"
import { createServer as createTlsServer, type TlsOptions } from "node:tls"

export interface Proxy {
  readonly port: number
  /** Swallows everything, both ways, and closes nothing. */
  readonly swallow: () => void
  /** Stops reading from the client, so that what it sends piles up. */
  readonly pause: () => void
  readonly resume: () => void
  /** Bytes received from clients. */
  readonly received: () => number
  readonly close: () => Promise<void>
}

/** Forwards to `port` of 127.0.0.1; with options it speaks TLS to its clients. */
export const startProxy = async (port: number, tls?: TlsOptions): Promise<Proxy> => {
  const clients = new Set<Socket>()
  let swallowing = false
  let paused = false
  let received = 0
  const onClient = (client: Socket) => {
    const broker = connect({ port, host: "127.0.0.1" })
    clients.add(client)
    if (paused) client.pause()
    client.on("data", (bytes) => {
      received += bytes.length
      if (!swallowing) broker.write(bytes)
    })
    broker.on("data", (bytes) => {
      if (!swallowing) client.write(bytes)
    })
    for (const [one, other] of [
      [client, broker],
      [broker, client],
    ] as const) {
      one.on("error", () => {})
      one.on("close", () => {
        if (!swallowing) other.destroy()
      })
    }
  }
  const server = tls === undefined ? createServer(onClient) : createTlsServer(tls, onClient)
  server.on("tlsClientError", () => {})
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  return {
    port: (server.address() as { port: number }).port,
    swallow: () => {
      swallowing = true
    },
    pause: () => {
      paused = true
      for (const client of clients) client.pause()
    },
    resume: () => {
      paused = false
      for (const client of clients) client.resume()
    },
    received: () => received,
    close: () => {
      for (const client of clients) client.destroy()
      return new Promise((resolve) => server.close(() => resolve()))
    },
  }
}
