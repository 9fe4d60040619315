/**
 * Brokers that speak STOMP 1.2, over TCP, TLS or WebSocket: `drizzle-outbox/stomp`.
 *
 * A message is confirmed by the receipt of its own persistent SEND. On RabbitMQ a receipt means that the queues it was
 * routed to have it, or that there were none.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import { Broker, type BrokerConnection, BrokerError, type Subscription } from "../broker.ts"
import { connectTo, type StompConnectionOptions } from "./connection.ts"
import { type Endpoint, parseEndpoint } from "./endpoint.ts"
import type { TlsOptions } from "./wire.ts"

export type { TlsOptions } from "./wire.ts"

export interface StompOptions {
  /**
   * One URL, or several of one cluster that are tried in turn:
   * `stomp://user:password@host:61613/virtual-host`, `stomps://…` (default port 61614), `ws://host:15674/ws`, `wss://…`.
   */
  readonly url: Url | ReadonlyArray<Url>
  /** Wins over the URL's. */
  readonly login?: string
  /** Wins over the URL's. */
  readonly passcode?: string | Redacted.Redacted<string>
  /** The virtual host; wins over the URL's path. Default "/". */
  readonly virtualHost?: string
  /** For `stomps` and `wss`. */
  readonly tls?: TlsOptions
  /**
   * Who is silent for so long is gone: the broker shows that it lives twice in this time, or once a second, and we promise
   * to show it three times as often, so that a broker drops a dead client before two of them. Default 10 seconds; 0 asks
   * for none, and then a dead network goes unnoticed. Below 2 seconds the broker may be silent for 2.
   */
  readonly heartbeat?: Duration.Input
  /** For each host: socket, TLS and the broker's answer together; also for the receipt of a subscription. Default 10 seconds. */
  readonly connectTimeout?: Duration.Input
}

type Url = string | Redacted.Redacted<string>

/** A broker reached over STOMP. Fails, without repeating a URL, when one of them or a login cannot be used. */
export const layerStomp = (options: StompOptions): Layer.Layer<Broker, BrokerError> =>
  Layer.effect(Broker, make(options))

const make = Effect.fnUntraced(function* (options: StompOptions) {
  const endpoints = yield* Effect.try({
    try: () => endpointsOf(options),
    catch: (error) => error as BrokerError,
  })
  const connecting: StompConnectionOptions = {
    tls: options.tls ?? {},
    heartbeat: Duration.toMillis(options.heartbeat ?? "10 seconds"),
    connectTimeout: Duration.toMillis(options.connectTimeout ?? "10 seconds"),
  }
  return Broker.of({ connect: (subscription) => connectToFirst(endpoints, connecting, subscription) })
})

const endpointsOf = (options: StompOptions): ReadonlyArray<Endpoint> => {
  const urls = Array.isArray(options.url) ? (options.url as ReadonlyArray<Url>) : [options.url as Url]
  if (urls.length === 0) throw new BrokerError({ reason: "refused", message: "no broker URL is given" })
  return urls.map((url, index) => {
    const endpoint = parseEndpoint(plain(url), index)
    const passcode =
      options.passcode === undefined ? endpoint.passcode : Redacted.make(plain(options.passcode))
    const login = options.login ?? endpoint.login
    const virtualHost = options.virtualHost ?? endpoint.virtualHost
    for (const text of [login, passcode && Redacted.value(passcode), virtualHost]) {
      // CONNECT is the one frame that cannot escape.
      if (text !== undefined && /[\r\n\0]/.test(text)) {
        const message = `login, password or virtual host of ${endpoint.label} holds a line end or a NUL character`
        throw new BrokerError({ reason: "refused", message })
      }
    }
    return { ...endpoint, login, passcode, virtualHost }
  })
}

const plain = (text: Url): string => (typeof text === "string" ? text : Redacted.value(text))

const connectToFirst = (
  endpoints: ReadonlyArray<Endpoint>,
  options: StompConnectionOptions,
  subscription: Subscription | undefined,
): Effect.Effect<BrokerConnection, BrokerError, Scope.Scope> =>
  Effect.gen(function* () {
    const errors: Array<BrokerError> = []
    for (const endpoint of endpoints) {
      const tried = yield* Effect.result(connectTo(endpoint, options, subscription))
      if (tried._tag === "Success") return tried.success
      errors.push(tried.failure)
    }
    const [first] = errors as [BrokerError]
    if (errors.length === 1) return yield* first
    // Worth another try if any of them is.
    const { reason } = errors.find(({ isRetryable }) => isRetryable) ?? first
    return yield* new BrokerError({
      reason,
      message: errors.map(({ message }) => message).join("; "),
      cause: errors,
    })
  })
