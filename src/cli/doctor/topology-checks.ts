/** Where the outbox's destinations lead on RabbitMQ, and what the queues there do with what they cannot keep. */
import type { Queue } from "../../broker/rabbitmq-management/queues.ts"
import { reach } from "../../broker/rabbitmq-management/reach.ts"
import { type Target, targetOf } from "../../broker/rabbitmq-management/target.ts"
import type { Topology } from "../../broker/rabbitmq-management/topology.ts"
import { formatMillis } from "../duration.ts"
import { type Finding, ok, problem, warning } from "./finding.ts"

type Queues = ReadonlyMap<string, Queue>

/** A finding for each destination, and what is wrong with the queues that they reach. */
export const checkDestinations = (
  destinations: ReadonlyArray<string>,
  topology: Topology,
  queues: Queues,
): ReadonlyArray<Finding> => {
  const findings: Finding[] = []
  /** The keys with which messages arrive in each queue. */
  const arrivals = new Map<string, Set<string>>()
  for (const destination of destinations) {
    const target = targetOf(destination)
    if (target === undefined) {
      findings.push(
        problem(
          "topology.destination",
          destination,
          "is no destination that RabbitMQ takes",
          "use /topic/KEY, /exchange/NAME/KEY, /queue/NAME or /amq/queue/NAME, and %2F for a slash in a name",
        ),
      )
      continue
    }
    findings.push(checkDestination(destination, target, topology, queues))
    const found = reach(topology, target.exchange, target.key)
    if (found._tag !== "Queues") continue
    for (const queue of found.queues) {
      const keys = arrivals.get(queue)
      if (keys === undefined) arrivals.set(queue, new Set([target.key]))
      else keys.add(target.key)
    }
  }
  for (const [name, keys] of [...arrivals].sort()) {
    const queue = queues.get(name)
    if (queue !== undefined) findings.push(...checkQueue(queue, keys, topology))
  }
  return findings
}

const checkDestination = (
  destination: string,
  { exchange, key, declares }: Target,
  topology: Topology,
  queues: Queues,
): Finding => {
  if (declares) {
    const queue = queues.get(key)
    if (queue === undefined) return ok("topology.route", destination, "declared by the first message")
    const differing = queue.declared.filter((name) => name !== "x-queue-type")
    return differing.length === 0 && queue.lasting
      ? ok("topology.route", destination, "leads to its queue")
      : problem(
          "topology.declaration",
          destination,
          `a message declares the queue anew, and it was declared otherwise (${queue.lasting ? differing.join(", ") : "not durable"}): RabbitMQ refuses with PRECONDITION_FAILED, unless each message carries the same headers`,
          `send to /amq/queue/${destination.slice("/queue/".length)}, which declares nothing, or declare the queue plainly and give it a policy`,
        )
  }
  const found = reach(topology, exchange, key)
  switch (found._tag) {
    case "Queues": {
      const names = [...found.queues].sort()
      if (names.some((name) => queues.get(name)?.lasting !== false))
        return ok("topology.route", destination, `leads to ${listed(names)}`)
      return warning(
        "topology.transient",
        destination,
        `leads only to queues that do not last (${listed(names)}): while their subscribers are away, messages are confirmed and dropped`,
        "bind a durable queue",
      )
    }
    case "Unknown":
      return warning(
        "topology.unknown",
        destination,
        `whether it leads anywhere cannot be told: ${found.words}`,
      )
    case "Nowhere":
      return problem(
        "topology.unrouted",
        destination,
        `leads nowhere: ${found.words}; RabbitMQ confirms its messages and drops them`,
        `${remedyFor(exchange, key, topology)}; or OUTBOX_STRICT=on, and messages wait until something is bound`,
      )
  }
}

const remedyFor = (exchange: string, key: string, topology: Topology): string => {
  if (exchange === "") return `declare the queue ${JSON.stringify(key)} (start its consumer once)`
  if (!topology.exchanges.has(exchange))
    return `declare the exchange ${JSON.stringify(exchange)} and bind a queue to it`
  return `start the consumer once (it binds its queue), or bind a queue to exchange ${JSON.stringify(exchange)} with the key ${JSON.stringify(key)}`
}

const checkQueue = (queue: Queue, keys: ReadonlySet<string>, topology: Topology): ReadonlyArray<Finding> => {
  const where = `queue ${JSON.stringify(queue.name)}`
  const { deadLetterExchange: exchange, limit } = queue
  if (exchange !== undefined) return checkDeadLetters(where, exchange, queue.deadLetterKey, keys, topology)
  const findings: Finding[] = []
  if (limit?.overflow === "drop-head")
    findings.push(
      problem(
        "topology.limit",
        where,
        `drops its oldest messages beyond ${limit.words}, confirmed ones, too`,
        "give it the overflow reject-publish (then the relay waits), a dead-letter exchange, or no limit",
      ),
    )
  if (queue.ttlMillis !== undefined)
    findings.push(
      warning(
        "topology.ttl",
        where,
        `drops what waits for longer than ${formatMillis(queue.ttlMillis)}`,
        "give it a dead-letter exchange if that must not be lost",
      ),
    )
  if (queue.expiresMillis !== undefined)
    findings.push(
      warning(
        "topology.expires",
        where,
        `is deleted, messages included, when nobody uses it for ${formatMillis(queue.expiresMillis)}`,
        "declare it without x-expires if its messages must not be lost",
      ),
    )
  return findings
}

/** A queue drops what it dead-letters when that reaches no queue. */
const checkDeadLetters = (
  where: string,
  exchange: string,
  ownKey: string | undefined,
  keys: ReadonlySet<string>,
  topology: Topology,
): ReadonlyArray<Finding> => {
  for (const key of ownKey === undefined ? keys : [ownKey]) {
    const found = reach(topology, exchange, key)
    if (found._tag !== "Nowhere") continue
    return [
      problem(
        "topology.dead-letter",
        where,
        `drops what it dead-letters, as that leads nowhere: ${found.words}`,
        remedyFor(exchange, key, topology)
          .replace("start its consumer once", "for dead letters")
          .replace(/^start the consumer once \(it binds its queue\), or /, ""),
      ),
    ]
  }
  return [ok("topology.dead-letter", where, "its dead letters arrive")]
}

const SHOWN = 3

const listed = (names: ReadonlyArray<string>): string => {
  const more = names.length - SHOWN
  const shown = names.slice(0, SHOWN).map((name) => JSON.stringify(name))
  return `${shown.length === 1 ? "queue" : "queues"} ${shown.join(", ")}${more > 0 ? ` and ${more} more` : ""}`
}
