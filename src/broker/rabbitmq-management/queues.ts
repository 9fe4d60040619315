/** What RabbitMQ's queues do with what they cannot keep: their own arguments and the policies in force together. */
import * as Effect from "effect/Effect"
import type { BrokerError } from "../broker.ts"
import type { Management } from "./management.ts"
import { type Policy, readPolicies } from "./topology.ts"

export interface Queue {
  readonly name: string
  /** Outlives the broker, its declarer and its subscribers. */
  readonly lasting: boolean
  /** Arguments that it was declared with. */
  readonly declared: ReadonlyArray<string>
  readonly deadLetterExchange: string | undefined
  /** Without one a dead-lettered message keeps its own. */
  readonly deadLetterKey: string | undefined
  /** What happens at its limits, where it has any. */
  readonly limit: { readonly words: string; readonly overflow: string } | undefined
  /** How long a message may wait in it, in milliseconds. */
  readonly ttlMillis: number | undefined
  /** How long it may be unused before it is deleted, in milliseconds. */
  readonly expiresMillis: number | undefined
}

interface Answer {
  readonly name: string
  readonly durable: boolean
  readonly auto_delete: boolean
  readonly exclusive: boolean
  readonly arguments: Readonly<Record<string, unknown>>
  readonly policy?: string
}

/** The queues of a virtual host, by name. */
export const readQueues = (
  management: Management,
  virtualHost: string,
  policies: ReadonlyMap<string, Policy>,
): Effect.Effect<ReadonlyMap<string, Queue>, BrokerError> =>
  Effect.gen(function* () {
    // Without its statistics, as those lag behind by seconds and cost the broker dear.
    const answers = (yield* management.get(
      `/queues/${encodeURIComponent(virtualHost)}?disable_stats=true&columns=name,durable,auto_delete,exclusive,arguments,policy`,
    )) as ReadonlyArray<Answer>
    const operators = [...(yield* readPolicies(management, virtualHost, "operator-policies")).values()]
    return new Map(
      answers.map((answer) => [
        answer.name,
        queueOf(
          answer,
          policies.get(answer.policy ?? "")?.definition ?? {},
          operatorOf(operators, answer.name),
        ),
      ]),
    )
  })

type Definition = Readonly<Record<string, unknown>>

/** An operator's policy is not named by the queue: the one of the highest priority whose pattern fits. */
const operatorOf = (policies: ReadonlyArray<Policy>, name: string): Definition =>
  policies.filter(({ pattern }) => fits(pattern, name)).sort((a, b) => b.priority - a.priority)[0]
    ?.definition ?? {}

const fits = (pattern: string, name: string): boolean => {
  try {
    return new RegExp(pattern).test(name)
  } catch {
    // One of Erlang's own.
    return false
  }
}

const queueOf = (answer: Answer, policy: Definition, operator: Definition): Queue => {
  /** The queue's own argument wins over the policy. */
  const text = (name: string): string | undefined =>
    [answer.arguments[`x-${name}`], policy[name]].find((value) => typeof value === "string") as
      | string
      | undefined
  /** The least of them holds. */
  const least = (name: string, argument = `x-${name}`): number | undefined => {
    const numbers = [answer.arguments[argument], policy[name], operator[name]].filter(
      (value) => typeof value === "number",
    )
    return numbers.length === 0 ? undefined : Math.min(...numbers)
  }
  const [length, bytes] = [least("max-length"), least("max-length-bytes")]
  const words = [
    ...(length === undefined ? [] : [`${length.toLocaleString("en")} messages`]),
    ...(bytes === undefined ? [] : [`${bytes.toLocaleString("en")} bytes`]),
  ].join(" or ")
  return {
    name: answer.name,
    lasting: answer.durable && !answer.auto_delete && !answer.exclusive,
    declared: Object.keys(answer.arguments),
    deadLetterExchange: text("dead-letter-exchange"),
    deadLetterKey: text("dead-letter-routing-key"),
    limit: words === "" ? undefined : { words, overflow: text("overflow") ?? "drop-head" },
    ttlMillis: least("message-ttl"),
    expiresMillis: least("expires"),
  }
}
