/**
 * Batches sent as transactions, for a broker that writes to disk once for each.
 *
 * The receipt of its COMMIT confirms every message of a transaction. Where one is refused, ActiveMQ says so in an ERROR
 * without a receipt and fails the COMMIT: nothing of the transaction is kept. (With receipts on the SENDs, too, it writes
 * for each again: as slow as without a transaction.)
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
