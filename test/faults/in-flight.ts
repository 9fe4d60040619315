/** Reads the STOMP frames that pass a proxy, to know what is in flight at any moment. */
import type { Tap } from "../support/proxy.ts"
import { monotonic } from "./clock.ts"

export interface InFlight {
  /** For `startProxy`. */
  readonly tap: () => Tap
  /** Messages whose SEND has passed and whose confirmation has not; or deliveries that are not acknowledged. */
  readonly count: () => number
  /** Ids of all that was sent and may not be recorded: what is in flight, and what was confirmed lately. */
  readonly exposed: () => ReadonlyArray<string>
  /** From this moment on the database may not answer, and others may hold the lanes before the relay knows that its lease is over. */
  readonly databaseAway: () => void
  /** The process behind the link is no more, or as good as that: its connections count no more. */
  readonly abandon: () => void
  /** Messages that were in flight, or confirmed and not recorded, when a connection ended, of all that have: so many may come again. */
  readonly cutOff: () => Promise<number>
  /** When the last confirmation, or the last acknowledgement, passed. */
  readonly lastAt: () => number
}

/** So many confirmed ids are kept: more than a window. */
const KEPT = 3000

/** `unrecorded`: how many of these messages were not recorded as published at this moment. */
export const watchFrames = (
  unrecorded: (ids: ReadonlyArray<string>, at: Date) => Promise<number>,
): InFlight => {
  const links = new Set<Connection>()
  const cuts: Array<Promise<number>> = []
  let lastAt = 0
  let awaySince: Date | undefined
  const confirm = ({ confirmed }: Connection, ids: ReadonlyArray<string>) => {
    lastAt = monotonic()
    confirmed.push(...ids)
    if (confirmed.length > 2 * KEPT) confirmed.splice(0, confirmed.length - KEPT)
  }
  const cut = async (inFlight: ReadonlyArray<string>, confirmed: ReadonlyArray<string>) =>
    inFlight.length + (confirmed.length === 0 ? 0 : await unrecorded(confirmed, awaySince ?? new Date()))
  return {
    tap: () => {
      const link: Connection = { waiting: new Map(), transactions: new Map(), confirmed: [], deliveries: 0 }
      links.add(link)
      const up = frames((command, header) => {
        if (command === "SEND") {
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
        if (ids !== undefined) confirm(link, ids)
      })
      return {
        up,
        down,
        end: () => {
          if (links.delete(link)) cuts.push(cut(idsOf(link), link.confirmed))
        },
      }
    },
    count: () => {
      let count = 0
      for (const link of links) count += idsOf(link).length + Math.max(0, link.deliveries)
      return count
    },
    exposed: () => [...links].flatMap((link) => [...idsOf(link), ...link.confirmed]),
    databaseAway: () => {
      awaySince = new Date()
    },
    abandon: () => links.clear(),
    cutOff: async () => (await Promise.all(cuts)).reduce((sum, count) => sum + count, 0),
    lastAt: () => lastAt,
  }
}

interface Connection {
  /** Ids by the receipt that will confirm them. */
  readonly waiting: Map<string, ReadonlyArray<string>>
  readonly transactions: Map<string, ReadonlyArray<string>>
  /** Confirmed lately. */
  readonly confirmed: string[]
  deliveries: number
}

const idsOf = ({ waiting, transactions }: Connection): ReadonlyArray<string> => [
  ...[...waiting.values()].flat(),
  ...[...transactions.values()].flat(),
]

/** Calls back for every frame that ends in the bytes given. The bodies of this harness hold no NUL. */
const frames = (onFrame: (command: string, header: (name: string) => string | undefined) => void) => {
  let rest: Buffer = Buffer.alloc(0)
  return (bytes: Buffer) => {
    rest = rest.length === 0 ? bytes : Buffer.concat([rest, bytes])
    for (let end = rest.indexOf(0); end >= 0; end = rest.indexOf(0)) {
      // Heart-beats and the ends of frames before are blank lines.
      let start = 0
      while (rest[start] === 10 || rest[start] === 13) start++
      const blank = rest.indexOf("\n\n", start)
      const lines = rest
        .subarray(start, blank < 0 || blank > end ? end : blank)
        .toString()
        .split("\n")
      onFrame(lines[0] ?? "", (name) =>
        lines.find((text) => text.startsWith(`${name}:`))?.slice(name.length + 1),
      )
      rest = rest.subarray(end + 1)
    }
  }
}
