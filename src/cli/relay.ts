/** `drizzle-outbox relay`, and `node dist/relay.js`: the same. */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { Broker } from "../broker/broker.ts"
import { type Config, DATABASE_SETTINGS, MANAGEMENT_SETTINGS, required } from "../config.ts"
import { type RelayOptions, type RelayReport, runRelay } from "../relay/relay.ts"
import { layerListen, layerPolling } from "../relay/wakeup.ts"
import { type StoreError, storeError } from "../store/error.ts"
import { countHeld } from "../store/operate.ts"
import { layerPostgres } from "../store/postgres.ts"
import type { OutboxStore } from "../store/store.ts"
import { whenAvailable } from "./available.ts"
import { BROKER_DETAILS, brokerLayer, warnUnverified } from "./broker.ts"
import { defineCommand } from "./command.ts"
import { connectDatabase } from "./database.ts"
import { CliError } from "./failure.ts"
import { touch } from "./liveness.ts"
import { layerLogging } from "./logging.ts"
import { strictly } from "./management.ts"
import { counted } from "./table.ts"

const SETTINGS = [
  ...DATABASE_SETTINGS,
  ...MANAGEMENT_SETTINGS,
  "receiptTimeout",
  "strict",
  "relayName",
  "window",
  "batch",
  "lease",
  "pollInterval",
  "listen",
  "maxAttempts",
  "retention",
  "deadRetention",
  "drainTimeout",
  "djangoHeaders",
  "livenessFile",
  "logLevel",
] as const

type RelayConfig = Config<(typeof SETTINGS)[number]>

export const relayCommand = defineCommand({
  name: "relay",
  summary: "Moves pending messages to the broker, until it is stopped.",
  details: [
    "Any number of relays may run at once: they share the work. The first SIGTERM or SIGINT waits for the confirmations of what is in flight and exits 0; the second exits at once.",
    BROKER_DETAILS,
  ].join("\n"),
  settings: SETTINGS,
  options: {
    once: {
      help: "Ends when nothing that may leave is left: 0, or 1 where messages stay behind because they, their key or their destination are held, or where database or broker cannot be reached.",
    },
  },
  service: true,
  run: (config, { once }) =>
    Effect.suspend(() => {
      required("databaseUrl", config)
      const broker = config.strict ? strictly(brokerLayer(config), config) : brokerLayer(config)
      return Effect.gen(function* () {
        yield* Effect.logInfo("relay starting").pipe(
          Effect.annotateLogs({
            relay: config.relayName,
            schema: config.schema,
            window: config.window,
            once,
          }),
        )
        yield* warnUnverified(config)
        const store = yield* openStore(config, once)
        if (once) yield* reachBroker.pipe(Effect.provide(broker))
        const report = yield* runRelay(optionsOf(config, once)).pipe(
          Effect.provide(Layer.mergeAll(store, broker, wakeupLayer(config))),
        )
        yield* Effect.logInfo("nothing that may leave is left").pipe(Effect.annotateLogs({ ...report }))
        yield* complain(config, report)
      }).pipe(Effect.scoped, Effect.provide(layerLogging(config.logLevel)))
    }),
})

const optionsOf = (config: RelayConfig, once: boolean): RelayOptions => ({
  ...(config.relayName === undefined ? {} : { name: config.relayName }),
  ...(config.deadRetention === undefined ? {} : { deadRetention: config.deadRetention }),
  ...(config.livenessFile === undefined ? {} : { onTick: touch(config.livenessFile) }),
  lease: config.lease,
  window: config.window,
  batch: config.batch,
  pollInterval: config.pollInterval,
  receiptTimeout: config.receiptTimeout,
  maxAttempts: config.maxAttempts,
  retention: config.retention,
  drainTimeout: config.drainTimeout,
  djangoHeaders: config.djangoHeaders,
  once,
})

const wakeupLayer = (config: RelayConfig) =>
  config.listen ? layerListen({ url: required("databaseUrl", config), schema: config.schema }) : layerPolling

/** A service waits for a database that is away; `--once` says so and ends. */
const openStore = (
  config: RelayConfig,
  once: boolean,
): Effect.Effect<Layer.Layer<OutboxStore>, StoreError, Scope.Scope> => {
  const open = Layer.build(
    layerPostgres({ url: required("databaseUrl", config), schema: config.schema }),
  ).pipe(Effect.map(Layer.succeedContext))
  return once ? open : whenAvailable(open)
}

/** A run of `--once` would wait for a broker that is away; so it looks first. */
const reachBroker = Effect.scoped(Effect.asVoid(Effect.flatMap(Broker, (broker) => broker.connect())))

/** With `--once`: what stays behind because it is held makes the run a failure; what is not due does not. */
const complain = (config: RelayConfig, report: RelayReport) =>
  report.pending === 0
    ? Effect.void
    : connectDatabase(config).pipe(
        Effect.flatMap((sql) =>
          Effect.tryPromise({
            try: () => countHeld(sql, config.schema),
            catch: (cause) => storeError("count held messages", cause),
          }),
        ),
        Effect.flatMap((held) =>
          held === 0
            ? Effect.void
            : Effect.fail(
                new CliError({
                  message: `${counted(report.pending, "message")} pending, held by ${counted(held, "refusal")}: see drizzle-outbox status`,
                }),
              ),
        ),
      )
