/** What the consumer promises, checked at every step of a run by somebody who sees everything. */
import type { MemoryInboxRow } from "../../src/inbox/memory.ts"
import type { Draft } from "../../src/outbox/append.ts"
import type { World } from "./world.ts"

/** How the tries of a message go, one after another; then it succeeds. */
export type Try = "fails" | "snoozes" | "rejects" | "is too slow" | "takes its process down"

export interface Sent {
  readonly id: string
  readonly key: string | null
  readonly tries: ReadonlyArray<Try>
}

export const makeConsumerPromises = (
  world: World,
  look: () => { rows: ReadonlyArray<MemoryInboxRow>; emitted: ReadonlyArray<Draft> },
) => {
  const sent = new Map<string, Sent>()
  /** What the broker has accepted, in the order of first arrivals: which is the order of the queue. */
  const arrived: Sent[] = []
  const failures = new Map<string, number>()
  const begun = new Map<string, number>()
  const effects = new Set<string>()
  let seen = 0

  const deadNow = () =>
    new Set(look().rows.flatMap((row) => (row.state === "dead" ? [row.arrival.messageId] : [])))

  return {
    sent: (message: Sent) => void sent.set(message.id, message),
    /** The broker has accepted it, perhaps again. */
    arrive: (id: string) => {
      const message = sent.get(id)
      if (message !== undefined && !arrived.includes(message)) arrived.push(message)
    },
    /** A try of a message begins: what its handler is to do. */
    begin: (id: string): Try | undefined => {
      const count = begun.get(id) ?? 0
      begun.set(id, count + 1)
      return sent.get(id)?.tries[count]
    },
    failed: (id: string) => void failures.set(id, (failures.get(id) ?? 0) + 1),
    /** Looks at what has committed since the last look. */
    check: () => {
      const { rows, emitted } = look()
      for (const draft of emitted.slice(seen)) {
        const id = String(draft.body)
        world.tell("effect", id)
        if (id.startsWith("late "))
          return world.violate(
            "late writes",
            `what a handler wrote after its time was over has committed: ${id}`,
          )
        if (effects.has(id)) return world.violate("effect once", `${id} took effect again`)
        effects.add(id)
        const { key } = sent.get(id)!
        if (key === null) continue
        const dead = deadNow()
        for (const other of arrived) {
          if (other.id === id) break
          if (other.key === key && !effects.has(other.id) && !dead.has(other.id))
            return world.violate(
              "order",
              `${id} took effect, and ${other.id} of the same key, which came before it, had not`,
            )
        }
      }
      seen = emitted.length
      for (const { arrival, state, attempts } of rows) {
        const id = arrival.messageId
        if (attempts > (failures.get(id) ?? 0) && state !== "dead")
          return world.violate(
            "an outage burns no attempts",
            `${id} has ${attempts} attempts and failed ${failures.get(id) ?? 0} times`,
          )
        if (state === "handled" && !effects.has(id))
          return world.violate("effect once", `${id} counts as handled, and its effect has not committed`)
        if (state === "dead" && effects.has(id))
          return world.violate("effect once", `${id} took effect, and counts as dead`)
      }
    },

    /** What has neither taken effect nor died. */
    open: () => {
      const dead = deadNow()
      return arrived.filter(({ id }) => !effects.has(id) && !dead.has(id))
    },
  }
}

export type ConsumerPromises = ReturnType<typeof makeConsumerPromises>
