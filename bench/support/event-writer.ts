/** A service that writes rows with their events at a steady pace, so many rows a transaction. */
import { integer, pgTable, text } from "drizzle-orm/pg-core"
import { drizzle } from "drizzle-orm/postgres-js"
import { defineOutbox, transaction } from "drizzle-outbox"
import postgres from "postgres"
import { now, openLoop, poisson } from "./clock.ts"
import { serve } from "./program.ts"

export interface EventWriterConfig {
  readonly database: string
  readonly destination: string
  readonly keys: number
}

export interface Load {
  /** Events, not transactions. */
  readonly perSecond: number
  readonly seconds: number
  readonly perTransaction: number
}

export interface Loaded {
  readonly written: number
  /** From the first moment to the last commit: more than was asked for where the writer cannot keep up. */
  readonly seconds: number
}

const CONNECTIONS = 8

const orders = pgTable("orders", {
  id: integer().primaryKey().generatedAlwaysAsIdentity(),
  customer: text().notNull(),
  note: text().notNull(),
})

const note = "x".repeat(150)

serve(async ({ database, destination, keys }: EventWriterConfig) => {
  const client = postgres(database, { max: CONNECTIONS, onnotice: () => {} })
  await Promise.all(Array.from({ length: CONNECTIONS }, () => client`SELECT pg_sleep(0.05)`))
  const db = drizzle({ client })
  const { withOutbox } = defineOutbox({
    orders: { table: orders, destination, key: "customer", fields: ["id", "note"] },
  })
  let drawn = 0
  const row = () => ({ customer: `customer-${drawn++ % keys}`, note })
  const answer = async ({ perSecond, seconds, perTransaction }: Load): Promise<Loaded> => {
    const moments = poisson(perSecond / perTransaction, seconds)
    const began = now()
    const begun = await openLoop(moments, async () => {
      const rows = Array.from({ length: perTransaction }, row)
      await transaction(db, (tx) => withOutbox(tx, orders, rows))
    })
    return { written: begun.length * perTransaction, seconds: (now() - began) / 1000 }
  }
  return { answer, close: () => client.end() }
})
