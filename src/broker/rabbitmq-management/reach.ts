/** Which queues a message reaches on RabbitMQ: the one place that knows how its exchanges route. */

import { matchesTopic } from "./topic-pattern.ts"
import type { Binding, Exchange, Topology } from "./topology.ts"

/**
 * - `Queues`: in these it arrives.
 * - `Nowhere`: in none, in words that say at which exchange it ends.
 * - `Unknown`: it depends on what is not known here.
 */
export type Reach =
  | { readonly _tag: "Queues"; readonly queues: ReadonlySet<string> }
  | { readonly _tag: "Nowhere"; readonly words: string }
  | { readonly _tag: "Unknown"; readonly words: string }

/** Follows a message with this routing key from exchange to exchange, and to their alternates. */
export const reach = (topology: Topology, exchange: string, key: string): Reach => {
  const queues = new Set<string>()
  const seen = new Set<string>()
  const ends: string[] = []
  const todo = [exchange]
  let unknown: string | undefined
  for (let name = todo.pop(); name !== undefined; name = todo.pop()) {
    if (seen.has(name)) continue
    seen.add(name)
    const found = topology.exchanges.get(name)
    if (found === undefined) {
      ends.push(`there is no exchange ${quoted(name)}`)
      continue
    }
    const { bindings, doubt } = matching(found, key, topology.bindings.get(name) ?? [])
    unknown ??= doubt
    for (const { destination, destination_type: type } of bindings) {
      if (type === "queue") queues.add(destination)
      else todo.push(destination)
    }
    if (bindings.length > 0) continue
    ends.push(
      name === ""
        ? `there is no queue ${quoted(key)}`
        : `nothing is bound to exchange ${quoted(name)} for the routing key ${quoted(key)}`,
    )
    const alternate = alternateOf(found, topology)
    if (alternate !== undefined) todo.push(alternate)
  }
  if (queues.size > 0) return { _tag: "Queues", queues }
  if (unknown !== undefined) return { _tag: "Unknown", words: unknown }
  return { _tag: "Nowhere", words: ends.join("; ") }
}

/** The bindings that take the key for certain, and why there may be more. */
const matching = (
  { name, type }: Exchange,
  key: string,
  bindings: ReadonlyArray<Binding>,
): { readonly bindings: ReadonlyArray<Binding>; readonly doubt?: string } => {
  switch (type) {
    case "fanout":
      return { bindings }
    case "direct":
      return { bindings: bindings.filter(({ routing_key }) => routing_key === key) }
    case "topic":
      return { bindings: bindings.filter(({ routing_key }) => matchesTopic(routing_key, key)) }
    case "headers": {
      const certain = bindings.filter(takesAll)
      return certain.length === bindings.length
        ? { bindings }
        : { bindings: certain, doubt: `exchange ${quoted(name)} routes by the headers of each message` }
    }
    default:
      return {
        bindings: [],
        doubt: `how exchange ${quoted(name)} of type ${quoted(type)} routes is not known`,
      }
  }
}

/** Asks for no header at all. */
const takesAll = ({ arguments: asked }: Binding): boolean => {
  const { "x-match": match = "all", ...headers } = asked
  return match === "all" && Object.keys(headers).length === 0
}

/** Where an exchange sends what it routes nowhere: its own argument wins over its policy. */
const alternateOf = (exchange: Exchange, { policies }: Topology): string | undefined => {
  const own = exchange.arguments["alternate-exchange"]
  if (typeof own === "string") return own
  const named = policies.get(exchange.policy ?? "")?.definition["alternate-exchange"]
  return typeof named === "string" ? named : undefined
}

const quoted = (text: string): string => JSON.stringify(text)
