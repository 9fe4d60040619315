/** The broker that the settings name. */
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import type { Broker, BrokerError } from "../broker/broker.ts"
import { layerStomp, type TlsOptions } from "../broker/stomp/stomp.ts"
import { type BROKER_SETTINGS, type Config, required } from "../config.ts"
import { stompEnvironment } from "./stomp-environment.ts"

export type BrokerConfig = Config<(typeof BROKER_SETTINGS)[number]>

/** What `--help` says of a broker that no URL names. */
export const BROKER_DETAILS =
  "Without OUTBOX_BROKER_URL the broker is read from STOMP_HOST (127.0.0.1), STOMP_PORT (61613), STOMP_USERNAME (guest), STOMP_PASSCODE (guest), STOMP_VHOST (/) and STOMP_USE_SSL (off), if one of them is set."

/** Where the broker is. Throws a `CliError` where none is named. */
export const brokerUrlsOf = (
  config: Pick<BrokerConfig, "brokerUrl">,
): ReadonlyArray<Redacted.Redacted<string>> =>
  config.brokerUrl ?? stompEnvironment(process.env) ?? required("brokerUrl", config)

export const brokerTlsOf = (config: BrokerConfig): TlsOptions => ({
  ...(config.brokerTlsCa === undefined ? {} : { ca: config.brokerTlsCa }),
  ...(config.brokerTlsCert === undefined ? {} : { cert: config.brokerTlsCert }),
  ...(config.brokerTlsKey === undefined ? {} : { key: config.brokerTlsKey }),
  ...(config.brokerTlsServername === undefined ? {} : { servername: config.brokerTlsServername }),
  rejectUnauthorized: config.brokerTlsVerify,
})

/** Throws a `CliError` where no broker is named. `url`: one of its hosts alone. */
export const brokerLayer = (
  config: BrokerConfig,
  url: Redacted.Redacted<string> | ReadonlyArray<Redacted.Redacted<string>> = brokerUrlsOf(config),
): Layer.Layer<Broker, BrokerError> =>
  layerStomp({
    url,
    tls: brokerTlsOf(config),
    heartbeat: config.heartbeat,
    ...(config.vhost === undefined ? {} : { virtualHost: config.vhost }),
  })

/** Says once, at a program's start, that whoever sits between it and the broker can read and change everything. */
export const warnUnverified = (config: BrokerConfig): Effect.Effect<void> =>
  config.brokerTlsVerify || !brokerUrlsOf(config).some((url) => /^(stomps|wss):/.test(Redacted.value(url)))
    ? Effect.void
    : Effect.logWarning(
        "OUTBOX_BROKER_TLS_VERIFY is off: any certificate is taken for the broker's, and whoever sits in between reads and changes everything, the password included; give the broker's authority as OUTBOX_BROKER_TLS_CA instead",
      )
