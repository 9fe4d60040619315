/**
 * How fast waiting messages have their effect, each once, against bare transactions that write the same row.
 *
 * The memory broker holds the messages, so that what is measured is the consumer and its database, not the broker.
 */

import { sql as statement } from "drizzle-orm"
import { drizzle, type PostgresJsDatabase } from "drizzle-orm/postgres-js"
import { Broker, type Incoming, layerMemory, type Outgoing, publish } from "drizzle-outbox/broker"
import { type Consumer, consume, consumeBatch, layerPostgres } from "drizzle-outbox/consumer"
import { Context, Deferred, Effect, Layer, Logger } from "effect"
import postgres from "postgres"
import { compare } from "./support/compare.ts"
import type { Question } from "./support/question.ts"
import { startDatabase } from "./support/servers.ts"

const PARALLEL = 8
const KEYS = 500
const DESTINATION = "/queue/bench"

export const question: Question = {
  asks: "How fast do waiting messages have their effect, each once?",
  minutes: 10,
  run: async (lab) => {
    // Short repeats, and many: what else the machine does falls on both sides of a pair.
    const count = lab.once ? 500 : 2_000
    const database = await startDatabase()
    // What a consumer with so many handlers needs; the baseline uses as many of them as there are handlers.
    const client = postgres(database.url, { max: PARALLEL + 2, onnotice: () => {} })
    const db = drizzle({ client })
    try {
      await client`CREATE TABLE effects (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, n int NOT NULL, note text NOT NULL)`
      const clean = async () => {
        await client`TRUNCATE effects, outbox.inbox`
        await client`VACUUM ANALYZE effects, outbox.inbox`
        await client`CHECKPOINT`
      }
      const check = async () => {
        const [row] = await client`SELECT count(*)::int AS n FROM effects`
        if (row?.["n"] !== count) throw new Error(`${row?.["n"]} effects of ${count} messages`)
      }
      const bare = async () => {
        await clean()
        const rate = await bareTransactions(db, count)
        await check()
        return rate
      }
      const ours = (consumer: Consumer) => async () => {
        await clean()
        const rate = await consumed(consumer, db, count)
        await check()
        return rate
      }
      const settings = {
        ...database.settings,
        broker: "memory",
        messages: count,
        keys: KEYS,
        parallel: PARALLEL,
        order: "key",
      }
      const single = ours(
        consume<Body>(DESTINATION, { consumer: "bench", parallel: PARALLEL }, ({ tx, body }) =>
          insert(tx, body),
        ),
      )
      const batch = ours(
        consumeBatch<Body>(
          DESTINATION,
          { consumer: "bench", parallel: PARALLEL, batch: { size: 100 } },
          (messages, { tx }) =>
            insertAll(
              tx,
              messages.map(({ body }) => body),
            ),
        ),
      )
      for (const [name, contestant] of [
        ["one by one", single],
        ["batches of 100", batch],
      ] as const)
        await lab.measure(name, async () => ({
          ...(await compare(lab, { label: name, repeats: 15 }, contestant, bare)),
          settings,
        }))
    } finally {
      await client.end()
      await database.remove()
    }
  },
}

interface Body {
  readonly n: number
  readonly note: string
}
interface Executor {
  readonly execute: (query: ReturnType<typeof statement>) => PromiseLike<unknown>
}

const note = "x".repeat(150)

const insert = async (tx: Executor, { n, note }: Body) =>
  tx.execute(statement`INSERT INTO effects (n, note) VALUES (${n}, ${note})`)

const insertAll = async (tx: Executor, bodies: ReadonlyArray<Body>) =>
  tx.execute(statement`
    INSERT INTO effects (n, note)
    SELECT n, note FROM json_to_recordset(${JSON.stringify(bodies)}::json) AS b(n int, note text)`)

/** BEGIN, INSERT, COMMIT, as many at a time as the consumer has handlers; gives the rate per second. */
const bareTransactions = async (db: PostgresJsDatabase, count: number): Promise<number> => {
  let next = 0
  const began = performance.now()
  const one = async () => {
    while (next < count) {
      const n = next++
      await db.transaction((tx) => insert(tx, { n, note }))
    }
  }
  await Promise.all(Array.from({ length: PARALLEL }, one))
  return (count / (performance.now() - began)) * 1000
}

/** From the subscription to the last acknowledgement, which comes after its commit. */
const consumed = (consumer: Consumer, db: PostgresJsDatabase, count: number): Promise<number> =>
  Effect.gen(function* () {
    const broker = Context.get(yield* Layer.build(layerMemory()), Broker)
    yield* publish(messages(count)).pipe(Effect.provideService(Broker, broker))
    const done = yield* Deferred.make<number>()
    let [left, began] = [count, 0]
    const acknowledged = (incoming: Incoming) => () => {
      incoming.ack()
      left--
      if (left === 0) Deferred.doneUnsafe(done, Effect.succeed(performance.now()))
    }
    const timed = Broker.of({
      connect: (subscription) =>
        Effect.map(broker.connect(subscription), (connection) => ({
          ...connection,
          subscribe: (to, deliver) => {
            began = performance.now()
            return connection.subscribe(to, (incoming) =>
              deliver({ ...incoming, ack: acknowledged(incoming) }),
            )
          },
        })),
    })
    const running = consumer.pipe(
      Effect.provide(Layer.merge(layerPostgres(db), Layer.succeed(Broker, timed))),
    )
    const ended = yield* Effect.raceFirst(Deferred.await(done), running)
    return (count / (ended - began)) * 1000
  }).pipe(Effect.scoped, Effect.provide(Logger.layer([])), Effect.runPromise)

const messages = (count: number): ReadonlyArray<Outgoing> =>
  Array.from({ length: count }, (_, n) => ({
    id: `message-${n}`,
    destination: DESTINATION,
    headers: { "outbox-message-id": `message-${n}`, "outbox-key": `customer-${n % KEYS}` },
    contentType: "application/json",
    body: JSON.stringify({ n, note }),
  }))
