/** Writers that commit at once, late or never, and remember when. */
import postgres from "postgres"
import type { Write } from "./arrivals.ts"

export interface WriterOptions {
  readonly messages: number
  readonly keys: number
  readonly destination: string
  readonly writers?: number
  /** Messages of one transaction. */
  readonly perTransaction?: number
}

/** Writes the messages (in so many transactions, of which one in ten more rolls back) and gives the committed ones. */
export const runWriters = async (url: string, options: WriterOptions): Promise<Write[]> => {
  const { messages, keys, destination, writers = 6, perTransaction = 5 } = options
  const written: Write[] = []
  let left = messages
  let turn = 0
  const one = async () => {
    const sql = postgres(url, { max: 1, onnotice: () => {} })
    while (left > 0) {
      const size = Math.min(perTransaction, left)
      left -= size
      const number = turn++
      const names = Array.from({ length: size }, (_, i) => `k${(number * 7 + i * 3) % keys}`)
      const began = performance.now()
      const insert = (tx: postgres.TransactionSql) => tx<{ position: string; key: string }[]>`
        INSERT INTO outbox.messages (event, operation, destination, key, body)
        SELECT 'order', 'emit', ${destination}, key, '{"n":' || ${number}::int || '}'
        FROM unnest(${names}::text[]) WITH ORDINALITY AS k(key, n) ORDER BY n RETURNING position, key`
      if (number % 10 === 0)
        await sql
          .begin(async (tx) => {
            await insert(tx)
            throw new Error("rolled back")
          })
          .catch(() => {})
      const rows = await sql.begin(async (tx) => {
        const rows = await insert(tx)
        if (number % 50 === 0) await new Promise((resolve) => setTimeout(resolve, 50 + (number % 150)))
        return rows
      })
      const committed = performance.now()
      for (const { position, key } of rows)
        written.push({ position: Number(position), scope: `${destination} ${key}`, began, committed })
    }
    await sql.end()
  }
  await Promise.all(Array.from({ length: writers }, one))
  return written
}
