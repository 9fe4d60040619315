/** Consumers as Effect programs: durable subscription, order per key, effect once, retries from the inbox. */
import type * as Effect from "effect/Effect"
import type * as Schema from "effect/Schema"
import type * as StandardSchema from "effect/StandardSchema"
import type { Broker, BrokerError } from "../broker/broker.ts"
import type { Inbox } from "../inbox/inbox.ts"
import type { AnyTransaction } from "../outbox/append.ts"
import type { BodySchema } from "../outbox/body.ts"
import type { OutboxEvent } from "../outbox/event.ts"
import type { Transaction } from "../outbox/transaction.ts"
import type { StoreError } from "../store/error.ts"
import { decoder } from "./decode.ts"
import type { Definition, Handle } from "./definition.ts"
import type { Delivery, Settled } from "./delivery.ts"
import { ConsumerError } from "./error.ts"
import type { Handling, Message, Work } from "./message.ts"
import { type BatchOptions, type ConsumerOptions, settingsOf } from "./options.ts"
import { runConsumer } from "./run.ts"

/** What a handler returns: an Effect, a Promise, or nothing. What it succeeds with is not used. */
export type HandlerResult<E, R> = Effect.Effect<unknown, E, R> | PromiseLike<unknown> | undefined

/** Handles one message. */
export type Handler<Body = unknown, Tx = AnyTransaction, E = unknown, R = Transaction> = (
  message: Handling<Body, Tx>,
) => HandlerResult<E, R>

/** Handles several messages in one transaction. */
export type BatchHandler<Body = unknown, Tx = AnyTransaction, E = unknown, R = Transaction> = (
  messages: ReadonlyArray<Message<Body>>,
  work: Work<Tx>,
) => HandlerResult<E, R>

/** Handles a delivery in a transaction of its own making, and returns its outcome. */
export type DeliveryHandler<E = unknown, R = never> = (
  delivery: Delivery,
) => Effect.Effect<Settled, E, R> | PromiseLike<Settled> | Settled

/** A consumer, ready to run: it ends by interruption only, or because it can never work. */
export type Consumer<R = never> = Effect.Effect<
  never,
  ConsumerError | StoreError | BrokerError,
  Broker | Inbox | R
>

/** What a consumer reads: an event of `defineOutbox`, or a destination. */
export type Source<Body> = OutboxEvent<string, Body> | string

/** What a handler reads of a body that a schema has checked: what an Effect Schema decodes, what a Standard Schema gives. */
export type DecodedBody<S extends BodySchema> = S extends Schema.Top
  ? S["Type"]
  : S extends StandardSchema.StandardSchemaV1<infer _Input, infer Output>
    ? Output
    : never

/**
 * Handles the messages of a queue one by one, each in a transaction together with the record that it was handled.
 *
 * **Details**  At least once on the wire; what the handler writes through `tx` happens once per consumer and message id
 * within `retention`. What it throws, rejects with or fails with is a failed try: the message is parked in the inbox and
 * tried again, with pauses by `retry`; `Reject` makes it dead at once, `Snooze` tries later without counting. With order
 * `key` the later messages of its key wait behind it; other keys never do. On interruption it takes nothing more, waits
 * for handlers under way (`drainTimeout`), and leaves the rest to the broker.
 *
 * **Gotchas**  Throws a `ConsumerError` for options that cannot be. Fails when the tables do not fit, or when the
 * broker's first answer is a refusal; every later trouble is waited out. Anything the handler does outside `tx` may
 * happen again: hand `id` on as an idempotency key. It takes `parallel` connections of the database, and two more.
 */
export const consume: {
  <S extends BodySchema, Tx extends AnyTransaction = AnyTransaction, R = Transaction>(
    source: Source<unknown>,
    options: ConsumerOptions & { readonly schema: S },
    handler: (message: Handling<DecodedBody<S>, Tx>) => HandlerResult<unknown, R>,
  ): Consumer<Exclude<R, Transaction>>
  <Body = unknown, Tx extends AnyTransaction = AnyTransaction, R = Transaction>(
    source: Source<Body>,
    options: ConsumerOptions,
    handler: (message: Handling<Body, Tx>) => HandlerResult<unknown, R>,
  ): Consumer<Exclude<R, Transaction>>
} = (source: Source<unknown>, options: ConsumerOptions, handler: (message: never) => unknown) => {
  callable(handler)
  return define<never>(source, single(options), {
    _tag: "Messages",
    call: ([message], work) =>
      handler({
        ...message,
        tx: work.tx,
        get signal() {
          return work.signal
        },
      } as never),
  })
}

/**
 * Handles up to `batch.size` messages of a queue in one transaction, in the order of their arrival.
 *
 * **Details**  When a batch fails, its messages are handled one by one: the handler is called with one at a time, and only
 * those that fail again are parked. Otherwise as `consume`.
 */
export const consumeBatch: {
  <S extends BodySchema, Tx extends AnyTransaction = AnyTransaction, R = Transaction>(
    source: Source<unknown>,
    options: ConsumerOptions & { readonly batch?: BatchOptions; readonly schema: S },
    handler: (messages: ReadonlyArray<Message<DecodedBody<S>>>, work: Work<Tx>) => HandlerResult<unknown, R>,
  ): Consumer<Exclude<R, Transaction>>
  <Body = unknown, Tx extends AnyTransaction = AnyTransaction, R = Transaction>(
    source: Source<Body>,
    options: ConsumerOptions & { readonly batch?: BatchOptions },
    handler: (messages: ReadonlyArray<Message<Body>>, work: Work<Tx>) => HandlerResult<unknown, R>,
  ): Consumer<Exclude<R, Transaction>>
} = (
  source: Source<unknown>,
  options: ConsumerOptions & { readonly batch?: BatchOptions },
  handler: (messages: never, work: never) => unknown,
) => {
  callable(handler)
  return define<never>(
    source,
    { ...options, batch: options.batch ?? {} },
    { _tag: "Messages", call: (messages, work) => handler(messages as never, work as never) },
  )
}

/**
 * Hands deliveries over as they came, undecoded and without a transaction: for callbacks that open their own and record
 * the message in it (`delivery.save(tx)`). The handler returns `delivery.ack()` or `delivery.nack()`; when it returns
 * neither, that is a failed try.
 */
export const consumeDelivery = <R = never>(
  source: Source<unknown>,
  options: ConsumerOptions,
  handler: (delivery: Delivery) => Effect.Effect<Settled, unknown, R> | PromiseLike<Settled> | Settled,
): Consumer<R> => define(source, single(options), { _tag: "Delivery", call: callable(handler) })

const define = <R>(
  source: Source<unknown>,
  options: ConsumerOptions & { readonly batch?: BatchOptions },
  handle: Handle,
): Consumer<R> => {
  const { destination, schema } = readOf(source, options)
  const definition = { settings: settingsOf(options, destination), decode: decoder(schema), handle }
  // What the handler needs is found in the context of whoever runs the consumer.
  const consumer = runConsumer(definition) as Consumer<R>
  definitions.set(consumer, definition)
  return consumer
}

const definitions = new WeakMap<object, Definition>()

/** What a consumer was made of; undefined for what is no consumer, or one inside another Effect. */
export const definitionOf = (consumer: object): Definition | undefined => definitions.get(consumer)

/** An object from elsewhere may have more than its type says: a batch of which one message would be handled. */
const single = (options: ConsumerOptions): ConsumerOptions => {
  if ((options as { readonly batch?: unknown } | undefined)?.batch === undefined) return options
  throw new ConsumerError({ reason: "option", message: "`batch` is an option of consumeBatch alone" })
}

/** JavaScript may give anything. */
const callable = <F>(handler: F): F => {
  if (typeof handler === "function") return handler
  throw new ConsumerError({ reason: "option", message: "a consumer needs a handler: it is no function" })
}

/** Which destination a source means, and what its bodies are. */
const readOf = (source: Source<unknown>, options: ConsumerOptions) => {
  const wrong = (message: string) => new ConsumerError({ reason: "source", message })
  if (typeof source === "string") {
    if (options.destination !== undefined) throw wrong("`destination` chooses among those of an event")
    return { destination: source, schema: options.schema }
  }
  const known = (source as Partial<typeof source> | undefined)?.destinations
  if (!Array.isArray(known))
    throw wrong(
      "a consumer reads an event of defineOutbox (`events.orders`) or a destination, and got neither",
    )
  const destination = options.destination ?? known[0]
  if (destination === undefined)
    throw wrong(`the destinations of event "${source.name}" are computed: give \`destination\``)
  if (options.destination === undefined && known.length > 1)
    throw wrong(
      `event "${source.name}" has the destinations ${known.join(", ")}: choose one with \`destination\``,
    )
  const publication = source.publications.find(({ destinations }) => destinations?.includes(destination))
  return { destination, schema: options.schema ?? (publication ?? source.publications[0])?.schema }
}
