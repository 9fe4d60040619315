/** Transactions that write messages to PostgreSQL in the way of the outbox in memory, for the conformance suite of stores. */
import { Effect } from "effect"
import postgres from "postgres"
import type { MemoryTransaction } from "../../src/store/memory.ts"

export const beginOn = (url: string): Effect.Effect<MemoryTransaction> =>
  Effect.promise(async () => {
    const tx = postgres(url, { max: 1, onnotice: () => {} })
    await tx`BEGIN`
    const end = (how: "COMMIT" | "ROLLBACK") =>
      Effect.promise(async () => {
        await tx.unsafe(how)
        await tx.end()
      })
    const ahead: number[] = []
    const nextval = tx`nextval(pg_get_serial_sequence('outbox.messages', 'position'))`
    return {
      draw: Effect.promise(async () => {
        await tx`LOCK TABLE outbox.messages IN ROW EXCLUSIVE MODE`
        const [row] = await tx`SELECT ${nextval} AS position`
        const position = Number(row?.["position"])
        ahead.push(position)
        return position
      }),
      append: (message) =>
        Effect.promise(async () => {
          const position = ahead.shift()
          const at = (millis: number | undefined) => (millis === undefined ? null : new Date(millis))
          const [row] = await tx`
            INSERT INTO outbox.messages (position, event, operation, destination, key, body, available_at, expires_at)
            OVERRIDING SYSTEM VALUE
            VALUES (${position ?? nextval}, ${message.event}, 'emit', ${message.destination}, ${message.key ?? null}, ${String(message.body)},
                    ${at(message.availableAt)}, ${at(message.expiresAt)})
            RETURNING position`
          return Number(row?.["position"])
        }),
      commit: end("COMMIT"),
      rollback: end("ROLLBACK"),
    }
  })
