/** `drizzle-outbox subscribe`, and `node dist/consumer.js`: the same. */
import { drizzle } from "drizzle-orm/postgres-js"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import type { Sql } from "postgres"
import { BROKER_SETTINGS, type Config, DATABASE_SETTINGS, required } from "../config.ts"
import { type ConsumerOptions, consume } from "../consumer/index.ts"
import { layerPostgres } from "../inbox/postgres.ts"
import { connect } from "../store/connect.ts"
import type { StoreError } from "../store/error.ts"
import { checkSchema } from "../store/migrate.ts"
import { whenAvailable } from "./available.ts"
import { BROKER_DETAILS, brokerLayer, warnUnverified } from "./broker.ts"
import { defineCommand, type OptionValues } from "./command.ts"
import { loadHandler } from "./handler.ts"
import { moduleExport, text } from "./kind.ts"
import { touch } from "./liveness.ts"
import { layerLogging } from "./logging.ts"

const SETTINGS = [
  ...DATABASE_SETTINGS,
  ...BROKER_SETTINGS,
  "consumer",
  "consumerName",
  "order",
  "parallel",
  "prefetch",
  "handlerTimeout",
  "maxAttempts",
  "pauseAfter",
  "deadLetter",
  "inboxRetention",
  "subscriptionHeaders",
  "drainTimeout",
  "livenessFile",
  "logLevel",
] as const

type SubscribeConfig = Config<(typeof SETTINGS)[number]>

const options = {
  handler: {
    kind: moduleExport,
    required: true,
    help: "The handler: a file as seen from the working directory (./handlers.js), an absolute path or a package, and the name of the export, `default` where none is given. It is a function that returns a Promise or an Effect. Node 22.18 and newer take TypeScript files, too.",
  },
  destination: { kind: text("DESTINATION", "a destination"), required: true, help: "What it reads." },
  queue: {
    kind: text("QUEUE", "the name of a queue"),
    help: "The durable queue that holds what arrives while nobody listens. Default: the consumer's name, a dot and the destination's last segment; where the destination is a queue, that one.",
  },
} as const

export const subscribeCommand = defineCommand({
  name: "subscribe",
  summary: "Consumes a destination with a handler of yours, until it is stopped.",
  details: [
    "A message's effect, its inbox row and the messages that the handler writes through tx commit together. Any number of instances may run at once. The first SIGTERM or SIGINT waits for the handlers under way and exits 0; the second exits at once. The broker keeps the queue: drizzle-outbox unsubscribe deletes it.",
    BROKER_DETAILS,
  ].join("\n"),
  settings: SETTINGS,
  options,
  arguments: ["handler", "destination", "queue"],
  service: true,
  run: (config, given) =>
    Effect.suspend(() => {
      const consumer = required("consumer", config)
      required("databaseUrl", config)
      const broker = brokerLayer(config)
      return Effect.gen(function* () {
        const handler = yield* loadHandler(given.handler)
        const consuming = consume(given.destination, optionsOf(consumer, config, given), handler as never)
        yield* Effect.logInfo("consumer starting").pipe(
          Effect.annotateLogs({
            consumer,
            name: config.consumerName,
            destination: given.destination,
            queue: given.queue,
            schema: config.schema,
            order: config.order,
          }),
        )
        yield* warnUnverified(config)
        const sql = yield* whenAvailable(openDatabase(config))
        yield* consuming.pipe(
          Effect.provide(
            Layer.mergeAll(layerPostgres(drizzle({ client: sql }), { schema: config.schema }), broker),
          ),
        )
      }).pipe(Effect.scoped, Effect.provide(layerLogging(config.logLevel)))
    }),
})

const optionsOf = (
  consumer: string,
  config: SubscribeConfig,
  { queue }: OptionValues<typeof options>,
): ConsumerOptions => ({
  consumer,
  ...(queue === undefined ? {} : { queue }),
  ...(config.consumerName === undefined ? {} : { name: config.consumerName }),
  ...(config.livenessFile === undefined ? {} : { onTick: touch(config.livenessFile) }),
  ...(config.subscriptionHeaders === undefined ? {} : { headers: config.subscriptionHeaders }),
  order: config.order,
  parallel: config.parallel,
  prefetch: config.prefetch,
  timeout: config.handlerTimeout,
  maxAttempts: config.maxAttempts,
  pauseAfter: config.pauseAfter,
  deadLetter: config.deadLetter,
  retention: config.inboxRetention,
  drainTimeout: config.drainTimeout,
})

/**
 * A connection for each handler and two for what goes on beside them, on tables that this program knows. A transaction
 * pooler refuses a setting of the session, and cannot keep prepared statements: then neither is used.
 */
const openDatabase = (config: SubscribeConfig): Effect.Effect<Sql, StoreError, Scope.Scope> => {
  const pool = { url: required("databaseUrl", config), connections: config.parallel + 2 }
  return connect({ ...pool, prepare: true, settings: { "drizzle_outbox.session": "consumer" } }).pipe(
    Effect.catch((error) =>
      /unsupported startup parameter/.test(error.message)
        ? connect({ ...pool, prepare: false })
        : Effect.fail(error),
    ),
    Effect.tap((sql) => checkSchema(sql, config.schema)),
  )
}
