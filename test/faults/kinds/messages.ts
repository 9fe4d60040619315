/** Messages and transactions that hold others up, or should not. */
import { drizzle } from "drizzle-orm/postgres-js"
import postgres from "postgres"
import { monotonic, sleep } from "../clock.ts"
import type { Fault } from "../fault.ts"
import { consumerRecovery, framesOf, recovery, whenInFlight } from "../lab.ts"
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

export const openWriter: Fault = {
  name: "open-transaction",
  title: "a transaction that wrote an event stays open",
  brokers: ["RabbitMQ"],
  recovery: 2,
  noRepeats: true,
  inject: async (lab, turn) => {
    const { postgres: server, sql, dice, destination, tried } = lab
    const client = postgres(server.url.replace(/\/postgres$/, `/${sql.options.database}`), {
      max: 1,
      onnotice: () => {},
    })
    const { withOutbox } = ordersOutbox(destination)
    const [ref, key] = [`open-${turn}`, `k${dice.below(60)}`]
    const inFlight = await whenInFlight(framesOf(lab))
    let called = 0
    let recovered: Promise<number | undefined> = Promise.resolve(undefined)
    await drizzle(client).transaction(async (tx) => {
      called = monotonic()
      await withOutbox(tx, orders, { ref, key })
      // Others flow while it is open.
      recovered = recovery(lab)
      await sleep(1500 + dice.next() * 2000)
    })
    tried.push({ orders: [[ref, key]], called, committed: monotonic() })
    await client.end()
    return { inFlight, recovered }
  },
}
