/** `drizzle-outbox relay`, and `node dist/relay.js`: the same. */
import { writeFile } from "node:fs/promises"
import { Effect, Layer, type Scope } from "effect"
import { Broker } from "../broker/broker.ts"
import { layerStomp, type TlsOptions } from "../broker/stomp/stomp.ts"
import { type Config, required, type SettingName, settings } from "../config.ts"
import { type RelayOptions, type RelayReport, runRelay } from "../relay/relay.ts"
import { layerListen, layerPolling } from "../relay/wakeup.ts"
import { type StoreError, storeError } from "../store/error.ts"
import { countHeld } from "../store/operate.ts"
import { layerPostgres } from "../store/postgres.ts"
import type { OutboxStore } from "../store/store.ts"
import { defineCommand } from "./command.ts"
import { connectDatabase } from "./database.ts"
import { CliError } from "./failure.ts"
import { layerLogging } from "./logging.ts"
import { stompEnvironment } from "./stomp-environment.ts"
import { counted } from "./table.ts"

const NAMES = Object.keys(settings) as SettingName[]

export const relayCommand = defineCommand({
  name: "relay",
  summary: "Moves pending messages to the broker, until it is stopped.",
  details: [
    "Any number of relays may run at once: they share the work. The first SIGTERM or SIGINT waits for the confirmations of what is in flight and exits 0; the second exits at once.",
    "Without OUTBOX_BROKER_URL the broker is read from STOMP_HOST (127.0.0.1), STOMP_PORT (61613), STOMP_USERNAME (guest), STOMP_PASSCODE (guest), STOMP_VHOST (/) and STOMP_USE_SSL (off), if one of them is set.",
  ].join("\n"),
  settings: NAMES,
  options: {
    once: {
      help: "Ends when nothing that may leave is left: 0, or 1 where messages stay behind because they, their key or their destination are held, or where database or broker cannot be reached.",
    },
  },
  service: true,
  run: (config, { once }) =>
    Effect.suspend(() => {
      required("databaseUrl", config)
      const broker = brokerLayer(config)
      return Effect.gen(function* () {
        yield* Effect.logInfo("relay starting").pipe(
          Effect.annotateLogs({
            relay: config.relayName,
            schema: config.schema,
            window: config.window,
            once,
          }),
        )
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

const optionsOf = (config: Config, once: boolean): RelayOptions => ({
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

const brokerLayer = (config: Config) => {
  const tls: TlsOptions = {
    ...(config.brokerTlsCa === undefined ? {} : { ca: config.brokerTlsCa }),
    ...(config.brokerTlsCert === undefined ? {} : { cert: config.brokerTlsCert }),
    ...(config.brokerTlsKey === undefined ? {} : { key: config.brokerTlsKey }),
    ...(config.brokerTlsServername === undefined ? {} : { servername: config.brokerTlsServername }),
    rejectUnauthorized: config.brokerTlsVerify,
  }
  const url = config.brokerUrl ?? stompEnvironment(process.env) ?? required("brokerUrl", config)
  return layerStomp({
    url,
    tls,
    heartbeat: config.heartbeat,
    ...(config.vhost === undefined ? {} : { virtualHost: config.vhost }),
  })
}

const wakeupLayer = (config: Config) =>
  config.listen ? layerListen({ url: required("databaseUrl", config), schema: config.schema }) : layerPolling

/** A service waits for a database that is away; `--once` says so and ends. */
const openStore = (
  config: Config,
  once: boolean,
): Effect.Effect<Layer.Layer<OutboxStore>, StoreError, Scope.Scope> =>
  Layer.build(layerPostgres({ url: required("databaseUrl", config), schema: config.schema })).pipe(
    Effect.map(Layer.succeedContext),
    Effect.catch((error) =>
      error.isRetryable && !once
        ? Effect.logWarning(error.message).pipe(
            Effect.andThen(Effect.sleep("1 second")),
            Effect.andThen(Effect.suspend(() => openStore(config, once))),
          )
        : Effect.fail(error),
    ),
  )

/** A run of `--once` would wait for a broker that is away; so it looks first. */
const reachBroker = Effect.scoped(Effect.asVoid(Effect.flatMap(Broker, (broker) => broker.connect)))

/** A sign of life that cannot be given is said once a minute, and read from the file's age. */
const touch = (file: string): Effect.Effect<void> => {
  let saidAt = Number.NEGATIVE_INFINITY
  return Effect.tryPromise(() => writeFile(file, `${new Date().toISOString()}\n`)).pipe(
    Effect.catch(() => {
      if (performance.now() - saidAt < 60_000) return Effect.void
      saidAt = performance.now()
      return Effect.logWarning("could not write the liveness file").pipe(Effect.annotateLogs({ file }))
    }),
  )
}

/** With `--once`: what stays behind because it is held makes the run a failure; what is not due does not. */
const complain = (config: Config, report: RelayReport) =>
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
