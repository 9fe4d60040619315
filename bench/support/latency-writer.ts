/** A service that writes an order in a transaction of its own at given moments, and has it announced in one of several ways. */
import { integer, pgTable, text } from "drizzle-orm/pg-core"
import { drizzle } from "drizzle-orm/postgres-js"
import { type Nudge as AnyNudge, defineOutbox, transaction } from "drizzle-outbox"
import { layerLocal, layerPostgres, Nudge, runRelay } from "drizzle-outbox/relay"
import { layerStomp } from "drizzle-outbox/stomp"
import { Effect, Layer, Logger } from "effect"
import postgres from "postgres"
import { rawStomp } from "../../test/support/stomp-client.ts"
import { now, openLoop, poisson } from "./clock.ts"
import { serve } from "./program.ts"

/** Published by itself after the commit, without an outbox; or left to a relay that polls, hears a NOTIFY, or runs in this process. */
export type Way = "direct" | "polling" | "notify" | "local"

export interface WriterConfig {
  readonly way: Way
  readonly database: string
  readonly broker: string
  readonly destination: string
}

export interface Pace {
  readonly perSecond: number
  readonly seconds: number
  /** The first order's number. */
  readonly first: number
}

/** On the machine's clock: when each order should have been begun, and when its commit had returned. */
export interface Written {
  readonly intended: ReadonlyArray<number>
  readonly committed: ReadonlyArray<number>
}

const CONNECTIONS = 16

const orders = pgTable("orders", {
  id: integer().primaryKey().generatedAlwaysAsIdentity(),
  n: integer().notNull(),
  customer: text().notNull(),
})

serve(async (config: WriterConfig) => {
  const client = postgres(config.database, {
    max: CONNECTIONS,
    onnotice: () => {},
    connection: { application_name: "bench" },
  })
  // Connections are opened before the first order, not by it.
  await Promise.all(Array.from({ length: CONNECTIONS }, () => client`SELECT pg_sleep(0.05)`))
  const db = drizzle({ client })
  const row = (n: number) => ({ n, customer: `customer-${n % 500}` })
  const write = config.way === "direct" ? await publishing() : outbox(nudgeOf())

  async function publishing() {
    const stomp = await rawStomp(config.broker)
    return async (n: number) => {
      await db.transaction((tx) => tx.insert(orders).values(row(n)).returning())
      const committed = now()
      stomp.send(config.destination, JSON.stringify({ n }), { "content-type": "application/json" })
      return committed
    }
  }

  function outbox(nudge: AnyNudge | undefined) {
    const { withOutbox } = defineOutbox(
      {
        orders: {
          table: orders,
          destination: config.destination,
          key: "customer",
          fields: ["n"],
        },
      },
      nudge === undefined ? {} : { nudge },
    )
    return async (n: number) => {
      await transaction(db, (tx) => withOutbox(tx, orders, row(n)))
      return now()
    }
  }

  function nudgeOf(): AnyNudge | undefined {
    if (config.way === "polling") return undefined
    if (config.way === "notify")
      return Nudge.notify(
        postgres(config.database, { max: 1, onnotice: () => {}, connection: { application_name: "bench" } }),
      )
    const local = Nudge.local()
    Effect.runFork(
      runRelay().pipe(
        Effect.provide(
          Layer.mergeAll(
            layerPostgres({ url: config.database }),
            layerStomp({ url: config.broker }),
            layerLocal(local),
          ),
        ),
        Effect.provide(Logger.layer([])),
      ),
    )
    return local
  }

  const answer = async ({ perSecond, seconds, first }: Pace): Promise<Written> => {
    const moments = poisson(perSecond, seconds)
    const committed: number[] = []
    const intended = await openLoop(moments, async (index) => {
      committed[index] = await write(first + index)
    })
    return { intended, committed }
  }
  return { answer }
})
