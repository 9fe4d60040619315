/** Reads the STOMP frames that pass a proxy, to know what is in flight at any moment. */
import type { Tap } from "../support/proxy.ts"
import { monotonic } from "./clock.ts"

export interface InFlight {
  /** For `startProxy`. */
  readonly tap: () => Tap
  /** Messages whose SEND has passed and whose confirmation has not; or deliveries that are not acknowledged. */
  readonly count: () => number
  /** Ids of confirmed messages, the latest last: what is in the table a moment later. */
  readonly confirmed: ReadonlyArray<string>
  /** Messages that were in flight when a connection ended, of all that have: so many may come again. */
  readonly cutOff: () => number
  /** When the last confirmation, or the last acknowledgement, passed. */
  readonly lastAt: () => number
  /** SENDs that have passed. */
  readonly sent: () => number
}

/** So many confirmed ids are kept: more than a window. */
const KEPT = 3000

export const watchFrames = (): InFlight => {
  const links = new Set<Connection>()
  const confirmed: string[] = []
  let lastAt = 0
  let sent = 0
  let cutOff = 0
  const confirm = (ids: ReadonlyArray<string>) => {
    lastAt = monotonic()
    confirmed.push(...ids)
    if (confirmed.length > 2 * KEPT) confirmed.splice(0, confirmed.length - KEPT)
  }
  return {
    tap: () => {
      const link: Connection = { waiting: new Map(), transactions: new Map(), deliveries: 0 }
      links.add(link)
      const up = frames((command, header) => {
        if (command === "SEND") {
          sent++
          const id = header("outbox-message-id") ?? ""
          const transaction = header("transaction")
          if (transaction === undefined) link.waiting.set(header("receipt") ?? "", [id])
          else link.transactions.set(transaction, [...(link.transactions.get(transaction) ?? []), id])
        } else if (command === "COMMIT") {
          const transaction = header("transaction") ?? ""
          link.waiting.set(header("receipt") ?? "", link.transactions.get(transaction) ?? [])
          link.transactions.delete(transaction)
        } else if (command === "ACK") {
          link.deliveries--
          lastAt = monotonic()
        }
      })
      const down = frames((command, header) => {
        if (command === "MESSAGE") link.deliveries++
        if (command !== "RECEIPT") return
        const receipt = header("receipt-id") ?? ""
        const ids = link.waiting.get(receipt)
        link.waiting.delete(receipt)
        if (ids !== undefined) confirm(ids)
      })
      return {
        up,
        down,
        end: () => {
          links.delete(link)
          cutOff += messagesOf(link)
        },
      }
    },
    count: () => {
      let count = 0
      for (const link of links) count += messagesOf(link) + Math.max(0, link.deliveries)
      return count
    },
    confirmed,
    cutOff: () => cutOff,
    lastAt: () => lastAt,
    sent: () => sent,
  }
}

interface Connection {
  /** Ids by the receipt that will confirm them. */
  readonly waiting: Map<string, ReadonlyArray<string>>
  readonly transactions: Map<string, ReadonlyArray<string>>
  deliveries: number
}

const messagesOf = ({ waiting, transactions }: Connection): number => {
  let count = 0
  for (const ids of waiting.values()) count += ids.length
  for (const ids of transactions.values()) count += ids.length
  return count
}

/** Calls back for every frame that ends in the bytes given. The bodies of this harness hold no NUL. */
const frames = (onFrame: (command: string, header: (name: string) => string | undefined) => void) => {
  let rest: Buffer = Buffer.alloc(0)
  return (bytes: Buffer) => {
    rest = rest.length === 0 ? bytes : Buffer.concat([rest, bytes])
    for (let end = rest.indexOf(0); end >= 0; end = rest.indexOf(0)) {
      const frame = rest.subarray(0, end)
      const blank = frame.indexOf("\n\n", 1)
      const lines = frame
        .subarray(0, blank < 0 ? end : blank)
        .toString()
        .trimStart()
        .split("\n")
      onFrame((lines[0] ?? "").trim(), (name) => {
        const line = lines.find((text) => text.startsWith(`${name}:`))
        return line?.slice(name.length + 1).trimEnd()
      })
      rest = rest.subarray(end + 1)
    }
  }
}
