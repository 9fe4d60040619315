/** The ids that a message being handled hands on to what is written in its transaction. */
import { is } from "drizzle-orm"
import { PgTransaction } from "drizzle-orm/pg-core"
import type { AnyTransaction } from "./append.ts"
import type { WriteOptions } from "./headers.ts"

type Carried = Pick<WriteOptions, "correlationId" | "causationId" | "traceparent">

const carried = new WeakMap<object, Carried>()

/** Everything written through `tx` and its savepoints carries these ids, unless the call gives its own. */
export const carryOn = (tx: AnyTransaction, ids: Carried): void => {
  carried.set(tx, ids)
  // An inbox in memory has none.
  if (!is(tx, PgTransaction)) return
  const begin = tx.transaction
  tx.transaction = (body) =>
    begin.call(tx, (inner) => {
      carryOn(inner, ids)
      return body(inner)
    }) as ReturnType<typeof body>
}

/** A call's options, with the ids that it does not give. */
export const carriedOn = (tx: AnyTransaction, options: WriteOptions): WriteOptions => {
  const ids = carried.get(tx)
  return ids === undefined
    ? options
    : {
        ...options,
        correlationId: options.correlationId ?? ids.correlationId,
        causationId: options.causationId ?? ids.causationId,
        traceparent: options.traceparent ?? ids.traceparent,
      }
}
