/** RabbitMQ's management as the settings name it: the broker's login and virtual host, where it has none of its own. */
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import type { Broker, BrokerError } from "../broker/broker.ts"
import { layerRabbitmqRoutes, type RabbitmqRoutesOptions } from "../broker/rabbitmq-management/routes.ts"
import { type Endpoint, parseEndpoint } from "../broker/stomp/endpoint.ts"
import { layerStrict } from "../broker/strict.ts"
import { type Config, type MANAGEMENT_SETTINGS, variableOf } from "../config.ts"
import { brokerTlsOf, brokerUrlsOf } from "./broker.ts"
import { CliError } from "./failure.ts"

export type ManagementConfig = Config<(typeof MANAGEMENT_SETTINGS)[number]>

/** `undefined` where no management URL is set. Throws a `CliError`, which repeats no URL, where the broker's cannot be read. */
export const managementOptions = (config: ManagementConfig): RabbitmqRoutesOptions | undefined => {
  const url = config.brokerManagementUrl
  if (url === undefined) return undefined
  const [first] = brokerUrlsOf(config) as [Redacted.Redacted<string>]
  const endpoint = endpointOf(first)
  const { servername, ...tls } = brokerTlsOf(config)
  const sameHost = new URL(Redacted.value(url)).hostname === endpoint.host
  return {
    url,
    login: endpoint.login,
    passcode: endpoint.passcode,
    virtualHost: config.vhost ?? endpoint.virtualHost ?? "/",
    tls: sameHost && servername !== undefined ? { ...tls, servername } : tls,
  }
}

const endpointOf = (url: Redacted.Redacted<string>): Endpoint => {
  try {
    return parseEndpoint(Redacted.value(url), 0)
  } catch (error) {
    throw new CliError({ message: (error as BrokerError).message })
  }
}

/** The broker in strict mode. Throws a `CliError` without a management URL. */
export const strictly = (
  broker: Layer.Layer<Broker, BrokerError>,
  config: ManagementConfig,
): Layer.Layer<Broker, BrokerError> => {
  const options = managementOptions(config)
  if (options === undefined)
    throw new CliError({
      message: `${variableOf("strict")} needs ${variableOf("brokerManagementUrl")}: only RabbitMQ's management tells where a destination leads`,
    })
  return layerStrict().pipe(Layer.provide(Layer.merge(broker, layerRabbitmqRoutes(options))))
}
