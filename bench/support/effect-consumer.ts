/** A consumer in a process of its own that writes a row for each message, one by one or in batches. */
import { integer, pgTable, text } from "drizzle-orm/pg-core"
import { drizzle } from "drizzle-orm/postgres-js"
import { consume, consumeBatch, startConsumer } from "drizzle-outbox/consumer"
import { layerStomp } from "drizzle-outbox/stomp"
import { Logger } from "effect"
import postgres from "postgres"
import { serve } from "./program.ts"

export interface EffectConsumerConfig {
  readonly database: string
  readonly broker: string
  readonly destination: string
  /** Messages of one transaction at the most; 1 is `consume`. */
  readonly batch: number
  readonly parallel: number
}

const effects = pgTable("effects", {
  position: integer().primaryKey().generatedAlwaysAsIdentity(),
  id: integer().notNull(),
  note: text().notNull(),
})

interface Body {
  readonly id: number
  readonly note: string
}

serve(async ({ database, broker, destination, batch, parallel }: EffectConsumerConfig) => {
  const client = postgres(database, { max: parallel + 2, onnotice: () => {} })
  const options = { consumer: "bench", parallel }
  const consumer =
    batch === 1
      ? consume<Body>(destination, options, ({ tx, body }) => tx.insert(effects).values(body))
      : consumeBatch<Body>(destination, { ...options, batch: { size: batch } }, (messages, { tx }) =>
          tx.insert(effects).values(messages.map(({ body }) => body)),
        )
  const running = startConsumer(consumer, {
    db: drizzle({ client }),
    broker: layerStomp({ url: broker }),
    layer: Logger.layer([]),
  })
  await running.ready
  return {
    answer: async () => {},
    close: async () => {
      await running.stop()
      await client.end()
    },
  }
})
