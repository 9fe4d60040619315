/**
 * Batches sent as transactions, for a broker that writes to disk once for each.
 *
 * Every SEND keeps a receipt of its own, so that a refusal still names its message; the others of its transaction are
 * committed all the same. A message is confirmed by both receipts, its own and its transaction's: the first says that the
 * broker has it, the second that it keeps it.
 */
import type { Outgoing } from "../broker.ts"
import { bodyLength } from "./frame.ts"

/** Bytes of bodies from which on a transaction is closed. */
const LIMIT = 1024 * 1024

/** Cuts a batch into runs of at most `most` messages, which keep their order. */
export const runsOf = function* (batch: ReadonlyArray<Outgoing>, most: number) {
  let from = 0
  let bytes = 0
  for (let index = 0; index < batch.length; index++) {
    bytes += bodyLength(batch[index] as Outgoing)
    if (index + 1 < batch.length && index + 1 - from < most && bytes < LIMIT) continue
    yield { from, to: index + 1 }
    from = index + 1
    bytes = 0
  }
}

/** What is known of the transactions whose COMMIT is out. */
export interface Transactions {
  /** `members`: receipts of its messages. */
  readonly sent: (commit: number, members: ReadonlyArray<number>) => void
  /** The receipts of messages that this one, of a message or a COMMIT, confirms; undefined where it is of no transaction. */
  readonly onReceipt: (receipt: number) => ReadonlyArray<number> | undefined
  /** Nothing more is expected of this message. */
  readonly settled: (receipt: number) => void
  /** Whether this receipt was asked for by a COMMIT. */
  readonly isCommit: (receipt: number) => boolean
}

export const makeTransactions = (): Transactions => {
  const members = new Map<number, ReadonlyArray<number>>()
  const committing = new Map<number, number>()
  const taken = new Set<number>()
  return {
    sent: (commit, receipts) => {
      members.set(commit, receipts)
      for (const receipt of receipts) committing.set(receipt, commit)
    },
    isCommit: (receipt) => members.has(receipt),
    onReceipt: (receipt) => {
      const receipts = members.get(receipt)
      if (receipts === undefined) {
        const commit = committing.get(receipt)
        if (commit === undefined) return undefined
        if (members.has(commit)) {
          taken.add(receipt)
          return []
        }
        return [receipt]
      }
      members.delete(receipt)
      return receipts.filter((member) => taken.has(member))
    },
    settled: (receipt) => {
      committing.delete(receipt)
      taken.delete(receipt)
    },
  }
}
