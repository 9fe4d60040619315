/** What a consumer can be told, and its checked form. */
import { hostname } from "node:os"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Pull from "effect/Pull"
import * as Schedule from "effect/Schedule"
import type { BodySchema } from "../outbox/body.ts"
import { millis } from "../outbox/event.ts"
import { defaultBackoff } from "../relay/backoff.ts"
import { ConsumerError } from "./error.ts"

/** Header names, or a function of a message's headers and body. */
export type Extractor =
  | string
  | ((message: {
      readonly headers: Readonly<Record<string, string>>
      readonly body: Uint8Array
    }) => string | null | undefined)

export interface ConsumerOptions {
  /** The consumer's name: the scope in which a message has its effect once. Instances of one service share it. */
  readonly consumer: string
  /** The durable queue it reads. Default: the consumer's name, a dot, and the destination's last segment. Not used where the destination is a queue itself. */
  readonly queue?: string
  /** Which destination of an event that has several. */
  readonly destination?: string
  /**
   * `key` (default): one instance at a time reads the queue, the others stand by; messages of a key are handled in
   * order, and a failing one holds only its key. `none`: all instances share the work, and nothing holds anything.
   */
  readonly order?: "key" | "none"
  /** The key of a message that carries no `outbox-key`. Default: it has none. */
  readonly key?: Extractor
  /** The id of a message that carries none of the known ones. */
  readonly identity?: Extractor
  /** Checks and decodes the body. Default: the event's own; for a destination none. */
  readonly schema?: BodySchema
  /** Pauses between tries. Default: 1 s doubling to 240 s, ± 20 %. */
  readonly retry?: Schedule.Schedule<unknown, unknown>
  /** Failed tries after which a message is dead. Default 50: a bit over three hours. */
  readonly maxAttempts?: number
  /** Times that a message may take its process down before it is dead. Default 3. */
  readonly maxStarts?: number
  /** How long a handler may take. Default 60 s. */
  readonly timeout?: Duration.Input
  /** Handlers at a time, each with a key and a database connection of its own. Default 8. */
  readonly parallel?: number
  /** Deliveries that the broker hands out before the first is settled. Default 100; eight batches, where a handler takes batches. */
  readonly prefetch?: number
  /** So many different keys that fail in a row make the consumer pause. Default 10. */
  readonly pauseAfter?: number
  /** Sends a copy of what dies to this destination, through the outbox; true: `/queue/DLQ.<queue>`. Default: none. */
  readonly deadLetter?: boolean | string
  /** How long handled messages are remembered, and so repeats recognised. Default 30 days. */
  readonly retention?: Duration.Input
  /** How long a stop waits for handlers under way. Default 5 s. */
  readonly drainTimeout?: Duration.Input
  /** Further headers of the subscription, in the broker's own terms: `{ "x-queue-type": "quorum" }`. */
  readonly headers?: Readonly<Record<string, string>>
  /** What operators call this instance. Default `host:pid`. */
  readonly name?: string
  /** Runs about every second while the consumer works or waits: a sign of life. */
  readonly onTick?: Effect.Effect<void>
}

/** How messages are gathered for `consumeBatch`. */
export interface BatchOptions {
  /** Messages in one call of the handler at the most. Default 100. */
  readonly size?: number
  /** How long the first of them waits for more. Default 20 ms. */
  readonly within?: Duration.Input
}

/** Checked options; times are in milliseconds. */
export interface ConsumerSettings {
  readonly consumer: string
  readonly queue: string
  readonly destination: string
  readonly ordered: boolean
  readonly key: Extractor | undefined
  readonly identity: Extractor | undefined
  readonly retry: Schedule.Schedule<unknown, unknown>
  readonly maxAttempts: number
  readonly maxStarts: number
  readonly timeoutMillis: number
  readonly parallel: number
  readonly prefetch: number
  readonly pauseAfter: number
  /** Null without copies. */
  readonly deadLetter: string | null
  readonly retentionMillis: number
  readonly drainMillis: number
  readonly headers: Readonly<Record<string, string>>
  readonly name: string
  readonly onTick: Effect.Effect<void>
  readonly batch: { readonly size: number; readonly millis: number } | undefined
}

const OPTIONS = [
  ...["consumer", "queue", "destination", "order", "key", "identity", "schema", "retry", "maxAttempts"],
  ...[
    "maxStarts",
    "timeout",
    "parallel",
    "prefetch",
    "pauseAfter",
    "deadLetter",
    "retention",
    "drainTimeout",
  ],
  ...["headers", "name", "onTick"],
]

/** Batches are handled one after another: so many are on their way from a broker that is slow to hand out the next. */
const BATCHES = 8

/** Checks options for one destination; throws a `ConsumerError`. */
export const settingsOf = (
  options: ConsumerOptions & { readonly batch?: BatchOptions },
  destination: string,
): ConsumerSettings => {
  const { consumer, order = "key" } = options
  if (typeof consumer !== "string" || consumer.trim() === "") {
    throw new ConsumerError({
      reason: "consumer",
      message: "a consumer needs a name: give `consumer`, the scope in which a message has its effect once",
    })
  }
  const fault = nameFault(consumer)
  if (fault !== undefined)
    throw new ConsumerError({ reason: "consumer", message: `the consumer's name ${fault}` })
  const strange = Object.keys(options).find((name) => name !== "batch" && !OPTIONS.includes(name))
  if (strange !== undefined) throw wrong(`there is no option ${JSON.stringify(strange)}`)
  if (order !== "key" && order !== "none") throw wrong('`order` is "key" or "none"')
  const queue = queueOf(consumer, destination, options.queue)
  const batch = options.batch && {
    size: positive("batch.size", options.batch.size ?? 100),
    millis: time("batch.within", options.batch.within ?? "20 millis"),
  }
  const settings: ConsumerSettings = {
    consumer,
    queue,
    destination,
    ordered: order === "key",
    key: options.key,
    identity: options.identity,
    retry: options.retry ?? defaultBackoff,
    maxAttempts: positive("maxAttempts", options.maxAttempts ?? 50),
    maxStarts: positive("maxStarts", options.maxStarts ?? 3),
    timeoutMillis: time("timeout", options.timeout ?? "60 seconds"),
    parallel: positive("parallel", options.parallel ?? 8),
    prefetch: positive("prefetch", options.prefetch ?? Math.max(100, BATCHES * (batch?.size ?? 0))),
    pauseAfter: positive("pauseAfter", options.pauseAfter ?? 10),
    deadLetter: deadLetterOf(options.deadLetter, queue),
    retentionMillis: time("retention", options.retention ?? "30 days"),
    drainMillis: time("drainTimeout", options.drainTimeout ?? "5 seconds"),
    headers: options.headers ?? {},
    name: options.name ?? `${hostname()}:${process.pid}`,
    onTick: options.onTick ?? Effect.void,
    batch,
  }
  if (settings.timeoutMillis < 1) throw wrong("`timeout` is at least a millisecond")
  return settings
}

/** Fails when what is handled would be forgotten before the last retry of it could come. */
export const checkRetention = Effect.fnUntraced(function* (settings: ConsumerSettings) {
  // A schedule may jitter: the bound is what it says this once.
  const step = yield* Schedule.toStep(settings.retry)
  let horizon = 0
  let pause = 0
  for (let attempt = 1; attempt < settings.maxAttempts && horizon <= settings.retentionMillis; attempt++) {
    const next = yield* Pull.catchDone(step(horizon, undefined), () => Effect.undefined)
    if (next !== undefined) pause = Duration.toMillis(next[1])
    else if (pause === 0) break
    horizon += pause
  }
  if (horizon > settings.retentionMillis) {
    return yield* Effect.fail(
      wrong(
        `\`retention\` (${Duration.format(Duration.millis(settings.retentionMillis))}) is shorter than the ${settings.maxAttempts} tries of a message can take: a repeat would have its effect twice`,
      ),
    )
  }
})

/** A queue's name: the destination's own where it is a queue, else the consumer's. */
const queueOf = (consumer: string, destination: string, queue: string | undefined): string => {
  if (typeof destination !== "string" || destination.trim() === "")
    throw new ConsumerError({ reason: "source", message: "a consumer needs a destination to read" })
  // RabbitMQ would read a queue of that name, whatever was meant: a topic, or an event of that name.
  if (!destination.startsWith("/"))
    throw new ConsumerError({
      reason: "source",
      message: `${JSON.stringify(destination)} is no destination: it starts with a slash, as /topic/orders or /queue/orders does`,
    })
  if (queue !== undefined) {
    const fault = queue.trim() === "" ? "is empty" : nameFault(queue)
    if (fault !== undefined) throw wrong(`\`queue\` ${fault}`)
    return queue
  }
  const segments = destination.split("/").filter((segment) => segment !== "")
  const last = segments[segments.length - 1] ?? destination
  return /^\/(amq\/)?queue\//.test(destination) ? last : `${consumer}.${last}`
}

const deadLetterOf = (given: boolean | string | undefined, queue: string): string | null => {
  if (given === undefined || given === false) return null
  if (given === true) return `/queue/DLQ.${queue}`
  if (given.trim() === "" || nameFault(given) !== undefined) throw wrong("`deadLetter` is no destination")
  return given
}

const nameFault = (name: string): string | undefined =>
  name.length > 200
    ? "is longer than 200 characters"
    : /[\r\n\0]/.test(name)
      ? "contains CR, LF or NUL"
      : undefined

const wrong = (message: string) => new ConsumerError({ reason: "option", message })

const positive = (name: string, value: number): number => {
  if (!Number.isSafeInteger(value) || value < 1) throw wrong(`\`${name}\` is a whole number from 1 on`)
  return value
}

const time = (name: string, value: Duration.Input): number =>
  millis(value, () => wrong(`\`${name}\` is no finite duration`)) as number
