/**
 * `npm run saga`: two services with a database each settle orders by telling each other what happened.
 *
 * orders: an order is placed, its stock reserved → payments: the bank is asked → orders: confirmed, or cancelled and its
 * stock given back. In memory, or on the broker that OUTBOX_BROKER_URL names. `-- --json` prints the summary as one JSON
 * line. Ends with 1 when a number does not add up, and leaves nothing behind.
 */
import { randomBytes } from "node:crypto"
import { chmodSync, mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Broker, layerMemory } from "drizzle-outbox/broker"
import { layerStomp } from "drizzle-outbox/stomp"
import { Cause, Effect, Exit, Fiber, Layer, Logger, References } from "effect"
import { startPostgres } from "../../test/support/embedded-postgres.ts"
import { type Bank, openBank } from "./bank.ts"
import type { Topics } from "./contracts.ts"
import { openOrders, orders, ordersTables, stock } from "./orders.ts"
import { openPayments, paymentsTables } from "./payments.ts"
import { type Database, openDatabase, runService } from "./service.ts"
import { doubts, readable, type Summary } from "./summary.ts"

const ORDERS = 60
const CUSTOMERS = 12
const STOCK = 1000
/** So long nothing may be settled before the saga gives up, in milliseconds. */
const PATIENCE = 15_000

const json = process.argv.includes("--json")
const brokerUrl = process.env["OUTBOX_BROKER_URL"]
const say = (line: string) => void process.stderr.write(`${line}\n`)
const sleep = (millis: number) => new Promise((resolve) => setTimeout(resolve, millis))

/** Everything that the saga writes is in here, and goes with the process however it ends. */
const home = mkdtempSync(join(tmpdir(), "drizzle-outbox-saga-"))
chmodSync(home, 0o755)
process.env["TMPDIR"] = home
process.once("exit", () => rmSync(home, { recursive: true, force: true }))

const saga = Effect.gen(function* () {
  say("starting PostgreSQL …")
  const server = yield* Effect.acquireRelease(
    Effect.promise(() => startPostgres({ fsync: "off" })),
    (server) => Effect.promise(() => server.remove()),
  )
  const run = randomBytes(4).toString("hex")
  const topics: Topics = { orders: `/topic/saga-${run}-orders`, payments: `/topic/saga-${run}-payments` }
  const ordersDb = yield* openDatabase(server.url, "orders", ordersTables)
  const paymentsDb = yield* openDatabase(server.url, "payments", paymentsTables)
  yield* Effect.promise(() => ordersDb.db.insert(stock).values({ product: "chair", left: STOCK }))

  const bank = openBank("customer-1")
  const shop = openOrders(ordersDb.db, topics, ordersDb.nudge)
  const till = openPayments(topics, bank, paymentsDb.nudge)
  const broker = yield* Layer.build(brokerUrl ? layerStomp({ url: brokerUrl.split(",") }) : layerMemory())
  // Released last: the services have unsubscribed by then.
  yield* Effect.addFinalizer(() => forgetQueues(topics).pipe(Effect.provide(broker)))
  // A service ends by itself only when it can never work: then that is the saga's end, too.
  const services = Effect.all([runService(ordersDb, shop.consumer), runService(paymentsDb, till.consumer)], {
    concurrency: "unbounded",
  }).pipe(Effect.as(false))
  const story = Effect.suspend(() => play(ordersDb, paymentsDb, shop, bank))
  return yield* Effect.raceFirst(services, story).pipe(Effect.provide(broker))
})

type Shop = ReturnType<typeof openOrders>

/** Places the orders and waits until they are settled. True when everything adds up. */
const play = Effect.fnUntraced(function* (ordersDb: Database, paymentsDb: Database, shop: Shop, bank: Bank) {
  say("waiting until both services listen …")
  // A queue exists from its first subscription on: what a topic is told before goes nowhere.
  yield* Effect.promise(() => bothListen(ordersDb, paymentsDb))

  say(`placing ${ORDERS} orders; every fifth costs too much, and the bank fails customer-1 twice …`)
  const began = performance.now()
  const numbers = Array.from({ length: ORDERS }, (_, index) => index + 1)
  yield* Effect.promise(() =>
    Promise.all(
      numbers.map((n) =>
        shop.place({
          customer: `customer-${n % CUSTOMERS}`,
          product: "chair",
          amount: n % 5 === 0 ? 500 : n,
          requestId: `request-${n}`,
        }),
      ),
    ),
  )
  yield* Effect.promise(() => everythingSettled(ordersDb))
  const seconds = Math.round(performance.now() - began) / 1000

  const placed = yield* Effect.promise(() => ordersDb.db.select().from(orders))
  const [chairs] = yield* Effect.promise(() => ordersDb.db.select().from(stock))
  const confirmed = placed.filter(({ state }) => state === "confirmed")
  const broker = yield* Effect.scoped(
    Effect.flatMap(Broker, ({ connect }) => Effect.map(connect(), ({ profile }) => profile.server)),
  )
  const summary: Summary = {
    placed: placed.length,
    confirmed: confirmed.length,
    cancelled: placed.filter(({ state }) => state === "cancelled").length,
    unsettled: placed.filter(({ timesSettled }) => timesSettled !== 1).length,
    uncorrelated: placed.filter(({ requestId, settledBy }) => requestId !== settledBy).length,
    stock: chairs?.left ?? Number.NaN,
    stockBefore: STOCK,
    taken: [...bank.taken.values()].reduce((sum, amount) => sum + amount, 0),
    owed: confirmed.reduce((sum, { amount }) => sum + amount, 0),
    bankFailures: bank.failures(),
    dead: (yield* Effect.promise(() => deadIn(ordersDb))) + (yield* Effect.promise(() => deadIn(paymentsDb))),
    seconds,
    broker,
  }
  process.stdout.write(`${json ? JSON.stringify(summary) : readable(summary)}\n`)
  const wrong = doubts(summary, ORDERS)
  for (const sentence of wrong) say(`does not add up: ${sentence}`)
  return wrong.length === 0
})

const bothListen = async (...databases: ReadonlyArray<Database>) => {
  const until = performance.now() + PATIENCE
  for (const { name, sql } of databases) {
    while (
      (await sql`SELECT FROM outbox.consumers WHERE state ->> 'connection' = 'connected'`).length === 0
    ) {
      if (performance.now() > until) throw new Error(`${name} has no broker`)
      await sleep(50)
    }
  }
}

const everythingSettled = async ({ sql }: Database) => {
  let [waiting, since] = [Number.POSITIVE_INFINITY, performance.now()]
  while (waiting > 0 && performance.now() - since < PATIENCE) {
    const { length } = await sql`SELECT FROM orders WHERE state = 'placed'`
    if (length < waiting) {
      ;[waiting, since] = [length, performance.now()]
      say(`${length} orders wait`)
    }
    await sleep(100)
  }
}

const deadIn = async ({ sql }: Database) => {
  const [row] = await sql<[{ n: number }]>`
    SELECT (SELECT count(*) FROM outbox.messages WHERE dead_at IS NOT NULL)::int
      + (SELECT count(*) FROM outbox.inbox WHERE state = 'dead')::int AS n`
  return row.n
}

/** The queues are durable, the saga is not. */
const forgetQueues = (topics: Topics) =>
  Effect.forEach(
    [
      { destination: topics.orders, queue: `payments.${topics.orders.slice("/topic/".length)}` },
      { destination: topics.payments, queue: `orders.${topics.payments.slice("/topic/".length)}` },
    ],
    (subscription) =>
      Effect.scoped(
        Effect.flatMap(Broker, ({ connect }) =>
          Effect.flatMap(connect(subscription), ({ forget }) => forget(subscription)),
        ),
      ).pipe(Effect.catch((error) => Effect.sync(() => say(error.message)))),
    { discard: true },
  )

let stopped = false
const logs = Layer.merge(
  Logger.layer([
    Logger.make<unknown, void>(({ message }) => {
      if (!stopped) say(`${message}`)
    }),
  ]),
  Layer.succeed(References.MinimumLogLevel, "Warn"),
)
const sentenceOf = (cause: Cause.Cause<unknown>): string => {
  const thrown = Cause.squash(cause)
  return thrown instanceof Error ? thrown.message : String(thrown)
}

const fiber = Effect.runFork(saga.pipe(Effect.scoped, Effect.provide(logs)))
for (const signal of ["SIGINT", "SIGTERM"] as const)
  process.on(signal, () => {
    stopped = true
    Effect.runFork(Fiber.interrupt(fiber))
  })
process.on("uncaughtException", (error) => {
  // PostgreSQL stops at the same signal as the saga, and its client trips over that.
  if (stopped) return
  say(`the saga failed: ${error.message}`)
  process.exit(1)
})
fiber.addObserver((exit) => {
  if (Exit.isFailure(exit) && !stopped) say(`the saga failed: ${sentenceOf(exit.cause)}`)
  process.exit(stopped ? 130 : Exit.isSuccess(exit) && exit.value ? 0 : 1)
})
