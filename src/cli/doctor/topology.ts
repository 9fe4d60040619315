/** The broker's side of routing: asked of RabbitMQ's management where it is given, else said that it was not. */
import * as Effect from "effect/Effect"
import type { BrokerError } from "../../broker/broker.ts"
import { type Management, makeManagement } from "../../broker/rabbitmq-management/management.ts"
import { readQueues } from "../../broker/rabbitmq-management/queues.ts"
import { readTopology } from "../../broker/rabbitmq-management/topology.ts"
import { CliError } from "../failure.ts"
import { type ManagementConfig, managementOptions } from "../management.ts"
import { counted } from "../table.ts"
import { type Finding, ok, problem, unchecked } from "./finding.ts"
import { clockFinding } from "./server-checks.ts"
import { checkDestinations } from "./topology-checks.ts"

/** `profile`: what the broker said it is, where it answered. */
export const checkTopology = (
  config: ManagementConfig,
  profile: string | undefined,
  destinations: ReadonlyArray<string>,
): Effect.Effect<ReadonlyArray<Finding>> =>
  Effect.suspend(() => {
    const options = managementOptions(config)
    if (options === undefined) return Effect.succeed([withoutManagement(profile, destinations)])
    const management = makeManagement(options)
    const virtualHost = options.virtualHost ?? "/"
    return Effect.gen(function* () {
      const topology = yield* readTopology(management, virtualHost)
      const queues = yield* readQueues(management, virtualHost, topology.policies)
      return [
        ok("management.connect", management.label, `tells of virtual host "${virtualHost}"`),
        ...(yield* checkAlarms(management)),
        ...(yield* checkBrokerClock(management)),
        ...(destinations.length === 0
          ? [
              unchecked(
                "topology.route",
                "destinations",
                "none: the outbox has no message, and none is given as an argument",
              ),
            ]
          : checkDestinations(destinations, topology, queues)),
      ]
    }).pipe(Effect.catch((error) => Effect.succeed([away(error)])))
  }).pipe(
    // A broker URL that cannot be read is a finding already.
    Effect.catchDefect((defect) => (defect instanceof CliError ? Effect.succeed([]) : Effect.die(defect))),
  )

const withoutManagement = (profile: string | undefined, destinations: ReadonlyArray<string>): Finding => {
  const where = counted(destinations.length, "destination")
  if (profile === "activemq")
    return unchecked(
      "topology.route",
      where,
      "ActiveMQ does not tell over STOMP where they lead: a topic without a durable subscriber, or a virtual topic without a consumer queue, confirms its messages and drops them; see that each topic has one",
    )
  return unchecked(
    "topology.route",
    where,
    "where they lead was not checked: a broker may confirm what it routes nowhere",
    "RabbitMQ: set OUTBOX_BROKER_MANAGEMENT_URL=http://HOST:15672",
  )
}

const away = ({ message }: BrokerError): Finding =>
  problem(
    "management.connect",
    "management API",
    message,
    "see that the plugin runs (rabbitmq-plugins enable rabbitmq_management), that OUTBOX_BROKER_MANAGEMENT_URL is right, and that the login has the tag management and a permission on the virtual host; where destinations lead was not checked",
  )

/** Under an alarm RabbitMQ takes nothing from publishers. */
const checkAlarms = (management: Management): Effect.Effect<ReadonlyArray<Finding>, BrokerError> =>
  Effect.map(management.ask("/health/checks/alarms"), ({ status, body }) => {
    if (status === 200) return [ok("broker.alarm", "resource alarms", "none")]
    const { alarms = [] } = (body ?? {}) as {
      readonly alarms?: ReadonlyArray<{ readonly node?: string; readonly resource?: string }>
    }
    if (status !== 503)
      return [unchecked("broker.alarm", "resource alarms", `could not be read (HTTP status ${status})`)]
    const words = alarms.map(({ node, resource }) => `${resource} on ${node}`).join(", ")
    return [
      problem(
        "broker.alarm",
        "resource alarms",
        `${words === "" ? "in force" : words}: the broker takes nothing from publishers until it ends, and confirms nothing`,
        "free memory or disk on that node, or raise vm_memory_high_watermark or disk_free_limit",
      ),
    ]
  })

/** HTTP tells whole seconds. */
const checkBrokerClock = (management: Management): Effect.Effect<ReadonlyArray<Finding>, BrokerError> =>
  Effect.gen(function* () {
    const before = Date.now()
    const began = performance.now()
    const { date } = yield* management.ask("/whoami")
    const trip = performance.now() - began
    if (date === undefined) return []
    return [clockFinding("broker.clock", "the broker", date + 500 - before - trip / 2, trip / 2 + 500, 1000)]
  })
