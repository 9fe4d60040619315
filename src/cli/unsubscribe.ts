/** `drizzle-outbox unsubscribe` */
import * as Effect from "effect/Effect"
import { Broker, type BrokerError, type Subscription } from "../broker/broker.ts"
import { BROKER_SETTINGS, type Config, DATABASE_SETTINGS, required } from "../config.ts"
import { settingsOf } from "../consumer/options.ts"
import { subscriptionOf } from "../consumer/subscription.ts"
import { readInstances } from "../inbox/operate.ts"
import { storeError } from "../store/error.ts"
import { BROKER_DETAILS, brokerLayer, warnUnverified } from "./broker.ts"
import { defineCommand, print } from "./command.ts"
import { connectOutbox } from "./database.ts"
import { formatMillis } from "./duration.ts"
import { CliError } from "./failure.ts"
import { text } from "./kind.ts"
import { layerLogging } from "./logging.ts"

export const unsubscribeCommand = defineCommand({
  name: "unsubscribe",
  summary: "Deletes what a subscription left with the broker: its queue, and the messages in it.",
  details: [
    "For a consumer that is gone for good: until then its queue gathers what arrives. The inbox stays as it is, with what is parked and dead in it. Refused while an instance of the consumer lives: the broker may delete the queue under it.",
    BROKER_DETAILS,
  ].join("\n"),
  settings: [...DATABASE_SETTINGS, ...BROKER_SETTINGS, "consumer", "order", "subscriptionHeaders"],
  options: {
    destination: {
      kind: text("DESTINATION", "a destination"),
      required: true,
      help: "What the subscription reads.",
    },
    queue: {
      kind: text("QUEUE", "the name of a queue"),
      help: "Its queue, where it is not the consumer's own: its name, a dot and the destination's last segment.",
    },
    yes: { help: "Deletes; without it the command only says what it would delete, and exits 1." },
    force: { help: "Does not ask the database whether an instance lives." },
    json: { help: 'One JSON line: {"destination":…,"queue":…}.' },
  },
  arguments: ["destination", "queue"],
  run: (config, { destination, queue: given, yes, force, json }) =>
    Effect.gen(function* () {
      const settings = settingsOf(
        {
          consumer: required("consumer", config),
          order: config.order,
          ...(given === undefined ? {} : { queue: given }),
          ...(config.subscriptionHeaders === undefined ? {} : { headers: config.subscriptionHeaders }),
        },
        destination,
      )
      const { queue } = settings
      const broker = brokerLayer(config)
      const doomed = `queue ${JSON.stringify(queue)} of ${destination} and every message in it`
      if (!yes)
        return yield* new CliError({ message: `this deletes ${doomed}; the inbox stays: say so with --yes` })
      if (!force) yield* refuseWhileUsed(config, settings.consumer, queue)
      yield* warnUnverified(config).pipe(Effect.provide(layerLogging("Warn", process.stderr)))
      yield* forget(subscriptionOf({ settings })).pipe(Effect.provide(broker))
      yield* print(json ? JSON.stringify({ destination, queue }) : `deleted ${doomed}; the inbox stays`)
    }),
})

/** RabbitMQ deletes a queue whoever reads it. */
const refuseWhileUsed = (config: Config<"databaseUrl" | "schema">, consumer: string, queue: string) =>
  Effect.scoped(
    Effect.gen(function* () {
      const sql = yield* connectOutbox(config)
      const instances = yield* Effect.tryPromise({
        try: () => readInstances(sql, config.schema),
        catch: (cause) => storeError("look for living instances", cause),
      })
      const living = instances.find(
        (row) => row.consumer === consumer && row.queue === queue && row.leaseMillis > 0,
      )
      if (living !== undefined)
        return yield* new CliError({
          message: `${living.name} consumes queue ${JSON.stringify(queue)}, or was killed and counts as alive for another ${formatMillis(living.leaseMillis)}: stop it first, or say --force`,
        })
    }),
  )

const forget = (subscription: Subscription): Effect.Effect<void, BrokerError, Broker> =>
  Effect.scoped(
    Effect.flatMap(Broker, (broker) =>
      Effect.flatMap(broker.connect(subscription), (connection) => connection.forget(subscription)),
    ),
  )
