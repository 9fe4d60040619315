/**
 * `npm run demo`: 1,000 orders in transactions of which some roll back, a relay, and a receiver that counts what arrives.
 *
 * In memory, or on the broker that OUTBOX_BROKER_URL names. `-- --json` prints the summary as one JSON line. Ends with 1
 * when a number does not add up, and leaves nothing behind.
 */
import { randomBytes } from "node:crypto"
import { chmodSync, mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { type Broker, layerMemory } from "drizzle-outbox/broker"
import { layerLocal, layerPostgres, migrate, Nudge, runRelay } from "drizzle-outbox/relay"
import { layerStomp } from "drizzle-outbox/stomp"
import { Cause, Effect, Exit, Fiber, Layer, Logger, Redacted, References } from "effect"
import postgres from "postgres"
import { startPostgres } from "../../test/support/embedded-postgres.ts"
import { receive } from "./receiver.ts"
import { openShop } from "./shop.ts"
import { doubts, readable, type Summary } from "./summary.ts"

const ORDERS = 1000
const WRITERS = 8
/** Arrivals that are shown one by one. */
const SHOWN = 5
/** So long nothing may arrive before the demo gives up, in milliseconds. */
const PATIENCE = 15_000

const json = process.argv.includes("--json")
const brokerUrl = process.env["OUTBOX_BROKER_URL"]
const say = (line: string) => void process.stderr.write(`${line}\n`)

/** Everything that the demo writes is in here, and goes with the process however it ends. */
const home = mkdtempSync(join(tmpdir(), "drizzle-outbox-demo-"))
chmodSync(home, 0o755)
process.env["TMPDIR"] = home
process.once("exit", () => rmSync(home, { recursive: true, force: true }))

const database = Effect.acquireRelease(
  Effect.promise(() => startPostgres({ fsync: "off" })),
  (server) => Effect.promise(() => server.remove()),
)

const client = (url: string) =>
  Effect.acquireRelease(
    Effect.sync(() => postgres(url, { max: WRITERS, onnotice: () => {} })),
    (sql) => Effect.promise(() => sql.end({ timeout: 1 })),
  )

/** One broker for relay and receiver, in memory unless there is a real one. */
const broker = (): Layer.Layer<Broker, { readonly message: string }> =>
  brokerUrl
    ? layerStomp({ url: brokerUrl.split(",").map((url) => Redacted.make(url.trim())) })
    : layerMemory()

const demo = Effect.gen(function* () {
  say("starting PostgreSQL …")
  const { url } = yield* database
  const sql = yield* client(url)
  const nudge = Nudge.local()
  // A topic of its own: the receiver's queue on it lives with the receiver's connection.
  const destination = `/topic/drizzle-outbox-demo-${randomBytes(4).toString("hex")}`
  const shop = openShop(sql, destination, nudge)
  yield* migrate(sql)
  yield* Effect.promise(shop.createTables)

  const brokerLayer = Layer.succeedContext(yield* Layer.build(broker()))
  const receiver = yield* receive(`${destination}.v1`, (arrival, body) => {
    if (arrival <= SHOWN) say(`received ${body}`)
    if (arrival === SHOWN) say("…")
  }).pipe(Effect.provide(brokerLayer))
  yield* runRelay({ name: "demo" }).pipe(
    Effect.provide(Layer.mergeAll(layerPostgres({ url }), brokerLayer, layerLocal(nudge))),
    Effect.tapCause((cause) =>
      Cause.hasInterruptsOnly(cause) ? Effect.void : Effect.logError("relay", cause),
    ),
    Effect.forkScoped,
  )

  say(`writing ${ORDERS} orders to a table, each with its event, while a relay publishes …`)
  const began = performance.now()
  let [committed, rolledBack] = [0, 0]
  const progress = () =>
    say(`${committed} committed, ${rolledBack} rolled back, ${receiver.received.size} received`)
  yield* Effect.acquireRelease(
    Effect.sync(() => setInterval(progress, 500)),
    (timer) => Effect.sync(() => clearInterval(timer)),
  )
  yield* Effect.forEach(
    Array.from({ length: ORDERS }, (_, index) => index + 1),
    (n) =>
      Effect.promise(async () => {
        if (await shop.placeOrder(n)) committed++
        else rolledBack++
      }),
    { concurrency: WRITERS, discard: true },
  )

  const published = () =>
    sql<[{ n: number }]>`SELECT count(*)::int AS n FROM outbox.messages WHERE published_at IS NOT NULL`.then(
      ([row]) => row.n,
    )
  yield* Effect.promise(async () => {
    let [seen, seenAt] = [-1, performance.now()]
    while (receiver.received.size < committed || (await published()) < committed) {
      if (receiver.received.size !== seen) [seen, seenAt] = [receiver.received.size, performance.now()]
      if (performance.now() - seenAt > PATIENCE) return
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
  })
  const seconds = Math.round(performance.now() - began) / 1000
  progress()

  const orders = yield* Effect.promise(shop.orderIds)
  const told = new Set(receiver.received.values())
  const [version] = yield* Effect.promise(() => sql<[{ server_version: string }]>`SHOW server_version`)
  const summary: Summary = {
    committed: orders.size,
    rolledBack,
    published: yield* Effect.promise(published),
    received: receiver.received.size,
    lost: [...orders].filter((id) => !told.has(id)).length,
    invented: [...told].filter((id) => !orders.has(id)).length,
    seconds,
    broker: receiver.broker,
    database: `PostgreSQL ${version.server_version.split(" ", 1)[0]}`,
  }
  process.stdout.write(`${json ? JSON.stringify(summary) : readable(summary, receiver.repeated())}\n`)
  const wrong = doubts(summary, ORDERS)
  for (const sentence of wrong) say(`does not add up: ${sentence}`)
  return wrong.length === 0
})

let stopped = false
const logs = Layer.merge(
  Logger.layer([
    Logger.make<unknown, void>(({ message }) => {
      if (!stopped) say(`${message}`)
    }),
  ]),
  Layer.succeed(References.MinimumLogLevel, "Warn"),
)
const sentenceOf = (cause: Cause.Cause<{ readonly message: string }>): string => {
  const failure = cause.reasons.find(Cause.isFailReason)
  return failure === undefined ? Cause.pretty(cause) : failure.error.message
}

const fiber = Effect.runFork(demo.pipe(Effect.scoped, Effect.provide(logs)))
for (const signal of ["SIGINT", "SIGTERM"] as const)
  process.on(signal, () => {
    stopped = true
    Effect.runFork(Fiber.interrupt(fiber))
  })
process.on("uncaughtException", (error) => {
  // PostgreSQL stops at the same signal as the demo, and its client trips over that.
  if (stopped) return
  say(`the demo failed: ${error.message}`)
  process.exit(1)
})
fiber.addObserver((exit) => {
  if (Exit.isFailure(exit) && !stopped) say(`the demo failed: ${sentenceOf(exit.cause)}`)
  process.exit(stopped ? 130 : Exit.isSuccess(exit) && exit.value ? 0 : 1)
})
