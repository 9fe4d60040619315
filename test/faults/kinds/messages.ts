/** Messages and transactions that hold others up, or should not. */
import { type SQL, sql as statement } from "drizzle-orm"
import { drizzle } from "drizzle-orm/postgres-js"
import postgres from "postgres"
import { monotonic, sleep } from "../clock.ts"
import type { Fault } from "../fault.ts"
import { consumerRecovery, framesOf, KEYS, type Lab, REFUSED, recovery, whenInFlight } from "../lab.ts"
import { orders, ordersOutbox } from "../orders.ts"

export const failingKey: Fault = {
  name: "failing-key",
  title: "the handler fails for one key among many, and writes after its end",
  brokers: ["RabbitMQ", "ActiveMQ"],
  recovery: 2,
  handler: "failing",
  failsHandlers: true,
  inject: async ({ sql, consumer, dice }, turn) => {
    const inFlight = await whenInFlight([consumer.frames])
    await sql`INSERT INTO failing VALUES (${`k${turn}`})`
    // Others flow meanwhile.
    const recovered = consumerRecovery(consumer)
    await sleep(500 + dice.next() * 1500)
    // The even ones stay broken until the end.
    if (turn % 2 === 1) await sql`DELETE FROM failing WHERE key = ${`k${turn}`}`
    return { inFlight, recovered }
  },
  mend: async ({ sql }) => {
    await sql`DELETE FROM failing`
  },
}

/** Places an order in a transaction of its own, which commits when `meanwhile` has ended. */
const placeOrder = async (
  { postgres: server, sql, destination, tried }: Lab,
  ref: string,
  key: string,
  meanwhile: (tx: { readonly execute: (query: SQL) => PromiseLike<unknown> }) => PromiseLike<unknown>,
): Promise<void> => {
  const client = postgres(server.url.replace(/\/postgres$/, `/${sql.options.database}`), {
    max: 1,
    onnotice: () => {},
  })
  const { withOutbox } = ordersOutbox(destination)
  let called = 0
  await drizzle(client).transaction(async (tx) => {
    called = monotonic()
    await withOutbox(tx, orders, { ref, key })
    await meanwhile(tx)
  })
  tried.push({ orders: [[ref, key]], called, committed: monotonic() })
  await client.end()
}

/** Writers write to all of these. */
const someKey = ({ dice }: Lab) => `k${dice.below(KEYS)}`

export const refusedKey: Fault = {
  name: "refused-key",
  title: "the broker refuses a message again and again, until it is mended; others of its key wait",
  brokers: ["RabbitMQ"],
  recovery: 2,
  inject: async (lab, turn) => {
    const inFlight = await whenInFlight(framesOf(lab))
    // RabbitMQ refuses what says that it comes from somebody else.
    await placeOrder(lab, `refused-${turn}`, someKey(lab), (tx) =>
      tx.execute(
        statement`UPDATE outbox.messages SET headers = '{"user-id":"nobody"}' WHERE xmin = pg_current_xact_id()::xid`,
      ),
    )
    // Others flow meanwhile.
    const recovered = recovery(lab)
    await sleep(1000 + lab.dice.next() * 1500)
    await lab.sql`UPDATE outbox.messages SET headers = ${REFUSED}::text::json WHERE headers->>'user-id' = 'nobody'`
    return { inFlight, recovered }
  },
}

export const openWriter: Fault = {
  name: "open-transaction",
  title: "a transaction that wrote an event stays open",
  brokers: ["RabbitMQ"],
  recovery: 2,
  noRepeats: true,
  inject: async (lab, turn) => {
    const inFlight = await whenInFlight(framesOf(lab))
    let recovered: Promise<number | undefined> = Promise.resolve(undefined)
    await placeOrder(lab, `open-${turn}`, someKey(lab), () => {
      // Others flow while it is open.
      recovered = recovery(lab)
      return sleep(1500 + lab.dice.next() * 2000)
    })
    return { inFlight, recovered }
  },
}
