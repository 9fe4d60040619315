/** The exchanges and bindings of a virtual host, read through the management API. */
import * as Effect from "effect/Effect"
import type { BrokerError } from "../broker.ts"
import type { Management } from "./management.ts"

export interface Exchange {
  readonly name: string
  readonly type: string
  readonly arguments: Readonly<Record<string, unknown>>
  /** The name of the policy in force. */
  readonly policy?: string
}

export interface Binding {
  readonly source: string
  readonly destination: string
  readonly destination_type: "queue" | "exchange"
  readonly routing_key: string
  readonly arguments: Readonly<Record<string, unknown>>
}

export interface Policy {
  readonly name: string
  readonly pattern: string
  readonly "apply-to": string
  readonly priority: number
  readonly definition: Readonly<Record<string, unknown>>
}

export interface Topology {
  readonly exchanges: ReadonlyMap<string, Exchange>
  /** By their source. The default exchange's are its queues. */
  readonly bindings: ReadonlyMap<string, ReadonlyArray<Binding>>
  /** By name. */
  readonly policies: ReadonlyMap<string, Policy>
}

export const readTopology = (
  management: Management,
  virtualHost: string,
): Effect.Effect<Topology, BrokerError> => {
  const vhost = encodeURIComponent(virtualHost)
  return Effect.map(
    Effect.all(
      [
        management.get(`/exchanges/${vhost}?columns=name,type,arguments,policy`),
        management.get(
          `/bindings/${vhost}?columns=source,destination,destination_type,routing_key,arguments`,
        ),
        readPolicies(management, virtualHost),
      ],
      { concurrency: "unbounded" },
    ),
    ([exchanges, bindings, policies]) => ({
      exchanges: byName(exchanges as ReadonlyArray<Exchange>),
      bindings: bySource(bindings as ReadonlyArray<Binding>),
      policies,
    }),
  )
}

export const readPolicies = (
  management: Management,
  virtualHost: string,
  kind: "policies" | "operator-policies" = "policies",
): Effect.Effect<ReadonlyMap<string, Policy>, BrokerError> =>
  Effect.map(management.get(`/${kind}/${encodeURIComponent(virtualHost)}`), (policies) =>
    byName(policies as ReadonlyArray<Policy>),
  )

const byName = <A extends { readonly name: string }>(items: ReadonlyArray<A>): ReadonlyMap<string, A> =>
  new Map(items.map((item) => [item.name, item]))

const bySource = (bindings: ReadonlyArray<Binding>): ReadonlyMap<string, ReadonlyArray<Binding>> => {
  const sorted = new Map<string, Binding[]>()
  for (const binding of bindings) {
    const of = sorted.get(binding.source)
    if (of === undefined) sorted.set(binding.source, [binding])
    else of.push(binding)
  }
  return sorted
}
