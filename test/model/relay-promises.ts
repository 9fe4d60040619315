/** What the relay promises, checked at every step of a run by somebody who sees everything. */
import type { Outgoing, Settlement } from "../../src/broker/broker.ts"
import type { MemoryRow } from "../../src/store/memory.ts"
import type { Share, Verdict } from "../../src/store/store.ts"
import type { World } from "./world.ts"

/** What the broker answers to one sending of a message, beside accepting it. */
export type Answer = "never" | "attempt"

/** A message as its writer knows it. Its body is its name. */
export interface Written {
  readonly name: string
  readonly destination: string
  readonly key: string | null
  readonly delayed: boolean
  readonly transaction: number
  readonly place: number
  /** Refusals that the broker has for it, one a sending; then it is accepted. */
  readonly answers: ReadonlyArray<Answer>
  /** The moment before its write began, in steps of the run. */
  readonly began: number
  /** The moment its commit returned. */
  committed: number | undefined
  /** Its transaction has committed, whether or not its writer knows. */
  visible: boolean
}

export const makeRelayPromises = (world: World, maxAttempts: number) => {
  const written = new Map<string, Written>()
  const arrived = new Set<string>()
  const confirmed = new Map<string, Set<string>>()
  const refusals = new Map<string, number>()
  const sendings = new Map<string, number>()
  /** Given up, by a verdict that had the right to. */
  const dead = new Set<string>()
  const doomed = new Set<string>()
  const tokens = new Map<number, number>()
  /** When each process was asked to stop. */
  const asked = new Map<string, number>()
  let step = 0

  const scopeOf = ({ destination, key }: Written) => `${destination} ${key}`
  const byScope = new Map<string, Written[]>()

  /** Whether order asks that the first leaves before the second. */
  const precedes = (first: Written, second: Written): boolean =>
    first.transaction === second.transaction
      ? first.place < second.place
      : first.committed !== undefined && first.committed < second.began

  return {
    /** A moment in the order in which things happen. */
    moment: () => ++step,
    write: (message: Written) => {
      written.set(message.name, message)
      if (message.key === null) return
      const scope = scopeOf(message)
      byScope.set(scope, [...(byScope.get(scope) ?? []), message])
    },
    written: (name: string) => written.get(name)!,
    all: () => [...written.values()],
    arrived: (name: string) => arrived.has(name),
    dead: (name: string) => dead.has(name),

    /** The broker's answer to this sending of a message: undefined accepts it. */
    answerTo: ({ body }: Outgoing): Answer | undefined => {
      const name = String(body)
      const sending = sendings.get(name) ?? 0
      sendings.set(name, sending + 1)
      const answers = written.get(name)?.answers ?? []
      // What can never pass does pass when it was mended, after it was given up.
      const answer =
        answers[0] === "never" && answers.length === 1
          ? dead.has(name)
            ? undefined
            : "never"
          : answers[sending]
      if (answer === "attempt") refusals.set(name, (refusals.get(name) ?? 0) + 1)
      if (answer === "never") doomed.add(name)
      if (answer !== undefined) world.tell("broker", `refuses ${name}: ${answer}`)
      return answer
    },

    /** The broker has accepted it. */
    arrive: ({ body, destination }: Outgoing) => {
      const name = String(body)
      const message = written.get(name)
      if (message === undefined || !message.visible)
        return world.violate("nothing invented", `${name} arrived, and no transaction with it has committed`)
      if (arrived.has(name)) return
      arrived.add(name)
      world.tell("broker", `has ${name} (${destination}, ${message.key})`)
      if (dead.has(name))
        return world.violate("order", `${name} arrived after it was given up, and nobody requeued it`)
      if (message.key === null) return
      for (const other of byScope.get(scopeOf(message)) ?? []) {
        if (
          other.delayed ||
          !other.visible ||
          arrived.has(other.name) ||
          dead.has(other.name) ||
          doomed.has(other.name)
        )
          continue
        if (precedes(other, message))
          world.violate(
            "order",
            `${name} arrived, and ${other.name} of the same key, written before it, had not`,
          )
      }
    },

    /** A process is asked to stop. */
    ask: (process: string) => {
      world.tell(process, "is asked to stop")
      asked.set(process, world.now())
    },

    /** A process sends. */
    send: (process: string, messages: ReadonlyArray<Outgoing>) => {
      const at = asked.get(process)
      if (at !== undefined && world.now() > at)
        world.violate(
          "stops",
          `${process} was asked to stop, and sends ${messages.map(({ body }) => String(body))}`,
        )
    },

    /** A process has been given an outcome. */
    answered: (process: string, { body }: Outgoing, settlement: Settlement) => {
      if (settlement._tag !== "Confirmed") return
      const name = String(body)
      confirmed.set(name, (confirmed.get(name) ?? new Set()).add(process))
    },

    /** A process records confirmations. */
    publish: (process: string, rows: ReadonlyArray<Readonly<MemoryRow>>) => {
      for (const { body } of rows) {
        const name = String(body)
        if (confirmed.get(name)?.has(process) !== true || !arrived.has(name))
          world.violate(
            "published means confirmed",
            `${process} records ${name} as published, which it was never told`,
          )
      }
    },

    /** A process has got its share of lanes. */
    share: ({ lanes }: Share) => {
      for (const [lane, token] of lanes) tokens.set(lane, Math.max(token, tokens.get(lane) ?? 0))
    },

    /** A process has recorded verdicts, of which these were taken. */
    judged: (
      process: string,
      verdicts: ReadonlyArray<Verdict>,
      done: ReadonlySet<number>,
      nameOf: (position: number) => string,
    ) => {
      for (const { position, lane, token, attempts, fate } of verdicts) {
        if (!done.has(position)) continue
        const name = nameOf(position)
        const what = fate === "dead" ? "dead" : `${attempts} attempts`
        world.tell(process, `records ${name}: ${what}`)
        if (token !== tokens.get(lane)) {
          world.violate(
            "fenced",
            `${process} has lost lane ${lane} (token ${token}, now ${tokens.get(lane)}), and still recorded of ${name}: ${what}`,
          )
          continue
        }
        if (attempts > (refusals.get(name) ?? 0))
          world.violate(
            "an outage burns no attempts",
            `${name} has ${attempts} attempts and was refused ${refusals.get(name) ?? 0} times`,
          )
        if (fate !== "dead") continue
        if (!doomed.has(name) && (refusals.get(name) ?? 0) < maxAttempts)
          world.violate(
            "an outage burns no attempts",
            `${name} was given up, and nobody had refused it for good`,
          )
        dead.add(name)
      }
    },

    /** What has committed and is neither with the broker nor given up. */
    open: (): ReadonlyArray<Written> =>
      [...written.values()].filter(({ name, visible }) => visible && !arrived.has(name) && !dead.has(name)),
  }
}

export type RelayPromises = ReturnType<typeof makeRelayPromises>
