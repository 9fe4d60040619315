/** What a careful user would write by hand: a stompjs client that sends a window of frames and waits for their receipts. */
import { Client } from "@stomp/stompjs"
import { gatheringSocket } from "./gathering-socket.ts"

export interface Frame {
  readonly destination: string
  readonly headers: Readonly<Record<string, string>>
  readonly body: string
}

export interface BarePublisher {
  /** Resolves with the receipt. */
  readonly publish: (frame: Frame) => Promise<void>
  readonly close: () => Promise<void>
}

const connectClient = async (url: string): Promise<Client> => {
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
  return client
}

/** Persistent, with the body's length and a receipt. */
const send = (client: Client, { destination, headers, body }: Frame, receipt: string): void =>
  client.publish({
    destination,
    headers: { receipt, persistent: "true", "content-length": String(Buffer.byteLength(body)), ...headers },
    body,
    skipContentLengthHeader: true,
  })

/** A connection to publish single messages. */
export const connectBare = async (url: string): Promise<BarePublisher> => {
  const client = await connectClient(url)
  let sent = 0
  return {
    publish: (frame) =>
      new Promise((resolve) => {
        const receipt = String(++sent)
        client.watchForReceipt(receipt, () => resolve())
        send(client, frame, receipt)
      }),
    close: () => client.deactivate(),
  }
}

/** Publishes everything with a receipt each, at most `window` unconfirmed, and gives the rate per second. */
export const publishBare = async (
  url: string,
  frames: ReadonlyArray<Frame>,
  window: number,
): Promise<number> => {
  const client = await connectClient(url)
  const started = performance.now()
  await new Promise<void>((resolve) => {
    let sent = 0
    let confirmed = 0
    const fill = () => {
      while (sent < frames.length && sent - confirmed < window) {
        const frame = frames[sent++]!
        const receipt = String(sent)
        client.watchForReceipt(receipt, onReceipt)
        send(client, frame, receipt)
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
