/** The kit: a user's own events and handlers on a user's own database, with everything between them in one process. */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { Outgoing } from "../broker/broker.ts"
import {
  type BatchHandler,
  type Consumer,
  consume,
  consumeBatch,
  consumeDelivery,
  type DeliveryHandler,
  definitionOf,
  type Handler,
  type Source,
} from "../consumer/consume.ts"
import type { Counts } from "../consumer/engine.ts"
import { type BatchOptions, type ConsumerOptions, checkRetention } from "../consumer/options.ts"
import { Inbox, type InboxScope } from "../inbox/inbox.ts"
import { layerPostgres } from "../inbox/postgres.ts"
import type { AnyTransaction } from "../outbox/append.ts"
import { millis, type OutboxEvent } from "../outbox/event.ts"
import type { AnyDatabase } from "../outbox/transaction.ts"
import { toOutgoing } from "../relay/state.ts"
import { type Delivery, deliveriesOf, makeReader, type Reader, runQuietly } from "./deliveries.ts"
import { type DeliverOptions, destinationOf, foreign } from "./foreign.ts"
import { migrateOn } from "./migrate.ts"
import { type PublishedMessage, publishedOf } from "./published.ts"
import { type DrainReport, makeWatch } from "./report.ts"
import { type InboxMessage, makeRows } from "./rows.ts"

export interface TestOutboxOptions {
  /** PostgreSQL schema of the outbox's and inbox's tables. Default "outbox". */
  readonly schema?: string
}

export interface DrainOptions {
  /** Tries of handlers after which it gives up. Default 200: enough for a test, and over before its time is. */
  readonly limit?: number
}

/** An outbox under test. Its methods run one after another: a handler that awaits one of them waits for itself. */
export interface TestOutbox {
  /** Adds a consumer, as `consume` does. */
  readonly consume: <Body = unknown, Tx extends AnyTransaction = AnyTransaction, E = never>(
    source: Source<Body>,
    options: ConsumerOptions,
    handler: Handler<Body, Tx, E>,
  ) => void
  /** Adds a consumer whose handler takes several messages, as `consumeBatch` does: those that are there, `batch.size` at the most. */
  readonly consumeBatch: <Body = unknown, Tx extends AnyTransaction = AnyTransaction, E = never>(
    source: Source<Body>,
    options: ConsumerOptions & { readonly batch?: BatchOptions },
    handler: BatchHandler<Body, Tx, E>,
  ) => void
  /** Adds a consumer whose handler takes deliveries as they came, as `consumeDelivery` does. */
  readonly consumeDelivery: <E = never>(
    source: Source<unknown>,
    options: ConsumerOptions,
    handler: DeliveryHandler<E>,
  ) => void
  /** Adds a consumer that the program under test has made: `kit.add(consume(…))`. */
  readonly add: (consumer: Consumer) => void
  /**
   * Publishes what is due and has it handled, with what handlers write meanwhile and with parked messages whose retry is
   * due, until nothing is.
   *
   * **Details**  One message at a time, in the outbox's order. A handler's failure is reported, not thrown. What is
   * parked for a later time in this drain waits for the next one, however short its pause.
   *
   * **Gotchas**  Rejects when the database fails, and after `limit` tries.
   */
  readonly drain: (options?: DrainOptions) => Promise<DrainReport>
  /**
   * Lets time pass for what waits: delayed messages, times to live, pauses before retries, snoozes. Nothing is handled
   * before the next `drain`.
   *
   * **Details**  Time in the tables is the database's clock, so the rows that wait are moved into the past. No other
   * column changes, and neither does any clock that your own code reads.
   */
  readonly advance: (duration: Duration.Input) => Promise<void>
  /** Everything this kit has published, in order; of an event with its body's type, or of a destination. */
  readonly published: {
    <Body>(event: OutboxEvent<string, Body>): Promise<ReadonlyArray<PublishedMessage<Body>>>
    (destination?: string): Promise<ReadonlyArray<PublishedMessage>>
  }
  /**
   * Hands a message, as if from elsewhere, to the consumers of its destination, and nothing else.
   *
   * **Details**  A string or bytes are the body as they are; everything else becomes JSON, through the event's schema
   * where it is an Effect Schema. An event must have one destination. Rejects when nobody consumes it.
   */
  readonly deliver: <Body>(
    to: Source<Body>,
    body: NoInfer<Body>,
    options?: DeliverOptions,
  ) => Promise<DrainReport>
  /** What waits in the inbox of this kit's consumers, in order of arrival. */
  readonly parked: () => Promise<ReadonlyArray<InboxMessage>>
  /** What is dead in the inbox of this kit's consumers, in order of arrival. */
  readonly dead: () => Promise<ReadonlyArray<InboxMessage>>
  /** Deletes all messages of outbox and inbox and forgets what was published: between two tests on one database. */
  readonly clear: () => Promise<void>
}

/** Messages published with one statement. */
const BATCH = 250

/**
 * Makes a kit on `db`, a Drizzle database on any PostgreSQL, PGlite included. Applies the migrations that are missing.
 *
 * **Details**  It replaces the broker, the relay's loop and the consumer's loops. The write path, the inbox and
 * everything that decides what becomes of a message are those of production.
 *
 * **Gotchas**  It publishes whatever is pending in the database: no relay and no other kit may work there at the same
 * time. On PGlite, which has one connection, handlers must write through `tx`: what they await from `db` never comes.
 */
export const testOutbox = async (
  db: AnyDatabase,
  { schema = "outbox" }: TestOutboxOptions = {},
): Promise<TestOutbox> => {
  await migrateOn(db, schema)
  const rows = makeRows(db, schema)
  const later = new Set<string>()
  const watch = makeWatch((scope, id) => later.add(nameOf(scope, id)))
  const counts: Counts = { handled: 0, duplicates: 0, failed: 0, dead: 0 }
  const inbox = watch.inbox(
    Effect.runSync(
      Effect.gen(function* () {
        return yield* Inbox
      }).pipe(Effect.provide(layerPostgres(db, { schema }))),
    ),
  )
  await runQuietly(inbox.open)
  const readers: Array<Reader> = []
  const accepted: Array<Outgoing> = []
  let waiting: Array<Delivery> = []
  let last: Promise<unknown> = Promise.resolve()

  const alone = <A>(work: () => Promise<A>): Promise<A> => {
    const done = last.then(work)
    last = done.catch(() => {})
    return done
  }
  const scopes = (): ReadonlyArray<InboxScope> => [
    ...new Map(readers.map(({ scope }) => [nameOf(scope, ""), scope])).values(),
  ]

  /** Runs `work` and tells what it did. */
  const reported = async (work: () => Promise<void>): Promise<DrainReport> => {
    const before = { ...counts, published: accepted.length }
    watch.failures.length = 0
    later.clear()
    await work()
    return {
      published: accepted.length - before.published,
      handled: counts.handled - before.handled,
      duplicates: counts.duplicates - before.duplicates,
      failed: counts.failed - before.failed,
      dead: counts.dead - before.dead,
      parked: await rows.countParked(scopes()),
      failures: [...watch.failures],
    }
  }

  /** True when there was something. */
  const publish = async (): Promise<boolean> => {
    const due = await rows.due(BATCH)
    for (const message of due.filter(({ expired }) => expired)) {
      const error = "its time to live was over before it left"
      await rows.dead(message.position, error)
      counts.dead++
      const { id, event, destination, key, attempts } = message
      watch.failures.push({ consumer: null, id, event, destination, key, attempts, outcome: "dead", error })
    }
    const leaving = due.filter(({ expired }) => !expired)
    if (leaving.length > 0) await rows.published(leaving.map(({ position }) => position))
    for (const message of leaving) {
      const outgoing = toOutgoing(message, true)
      accepted.push(outgoing)
      waiting.push(...deliveriesOf(outgoing, readers))
    }
    return due.length > 0
  }

  /** The next one, with what its handler takes together with it. */
  const next = (): readonly [Reader, ReadonlyArray<Delivery>] => {
    const [{ reader }] = waiting as [Delivery]
    const size = reader.definition.settings.batch?.size ?? 1
    return [reader, waiting.filter((delivery) => delivery.reader === reader).slice(0, size)]
  }

  const handle = (reader: Reader, deliveries: ReadonlyArray<Delivery>): Promise<void> => {
    const admitted = deliveries.map((delivery) => delivery.admitted)
    return runQuietly(
      reader.definition.settings.batch === undefined
        ? Effect.forEach(admitted, (each) => reader.engine.receive(each), { discard: true })
        : reader.engine.receiveBatch(admitted),
    )
  }

  /** Tries what is parked and due, once; gives how much that was. */
  const retry = async (count: (by: number) => void): Promise<boolean> => {
    let tried = false
    for (const scope of scopes()) {
      const { parked } = await runQuietly(inbox.due(scope, BATCH + later.size, false))
      for (const entry of parked) {
        if (later.has(nameOf(scope, entry.arrival.messageId))) continue
        const own = readers.filter((reader) => nameOf(reader.scope, "") === nameOf(scope, ""))
        const reader =
          own.find(({ definition }) => definition.settings.destination === entry.arrival.destination) ??
          own[0]
        count(1)
        tried = true
        await runQuietly((reader as Reader).engine.retry(entry, false))
      }
    }
    return tried
  }

  const drain = async (limit: number): Promise<void> => {
    let tries = 0
    const count = (by: number) => {
      if (tries + by > limit) throw new Error(endless(limit, accepted.at(-1)))
      tries += by
    }
    while (true) {
      if (await publish()) continue
      if (waiting.length > 0) {
        while (waiting.length > 0) {
          const [reader, deliveries] = next()
          count(deliveries.length)
          await handle(reader, deliveries)
          // Only now: where the database failed, the next drain delivers again, as a broker does.
          waiting = waiting.filter((delivery) => !deliveries.includes(delivery))
        }
      } else if (!(await retry(count))) return
    }
  }

  const add = (consumer: Consumer<unknown>): void => {
    const definition = definitionOf(consumer)
    if (definition === undefined)
      throw new TypeError("this is no consumer: give what consume, consumeBatch or consumeDelivery returned")
    Effect.runSync(checkRetention(definition.settings))
    readers.push(makeReader({ ...definition, handle: watch.handle(definition.handle) }, inbox, counts))
  }

  const deliver = async (to: Source<unknown>, body: unknown, options: DeliverOptions): Promise<void> => {
    const deliveries = deliveriesOf(foreign(to, body, options), readers)
    const [first] = deliveries
    if (first === undefined) throw new Error(`nobody consumes ${destinationOf(to)}`)
    for (const delivery of deliveries) await handle(delivery.reader, [delivery])
  }

  return {
    consume: (source, options, handler) => add(consume(source, options, handler)),
    consumeBatch: (source, options, handler) => add(consumeBatch(source, options, handler)),
    consumeDelivery: (source, options, handler) => add(consumeDelivery(source, options, handler)),
    add,
    drain: ({ limit = 200 } = {}) => alone(() => reported(() => drain(limit))),
    advance: (duration) =>
      alone(() =>
        rows.advance(
          millis(
            duration,
            () => new TypeError('advance() takes a finite duration, as in "5 minutes"'),
          ) as number,
        ),
      ),
    // biome-ignore lint/suspicious/noExplicitAny: the overloads say which bodies are meant.
    published: (of?: Source<unknown>): Promise<any> =>
      Promise.all(
        accepted
          .filter(({ destination, headers }) =>
            typeof of === "object"
              ? headers["outbox-event"] === of.name
              : of === undefined || of === destination,
          )
          .map((message) => publishedOf(message, typeof of === "object" ? of : undefined)),
      ),
    deliver: (to, body, options = {}) => alone(() => reported(() => deliver(to, body, options))),
    parked: () => alone(() => rows.inbox("parked", scopes())),
    dead: () => alone(() => rows.inbox("dead", scopes())),
    clear: () =>
      alone(async () => {
        await rows.clear()
        accepted.length = 0
        waiting = []
      }),
  }
}

const nameOf = ({ consumer, queue }: InboxScope, id: string): string => JSON.stringify([consumer, queue, id])

const endless = (limit: number, last: Outgoing | undefined): string =>
  `drain() gave up after ${limit} tries and more is due: does a handler write messages that lead back to itself? ` +
  `The last message published was ${JSON.stringify(last?.headers["outbox-event"])} to ${last?.destination}. ` +
  "For a test that needs more, give drain({ limit })"
