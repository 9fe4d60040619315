/** The inbox as a process reaches it: over a way that takes its time, from a database that goes away, and that rolls back what a killed process had open. */
import { Clock, Effect, Fiber } from "effect"
import type { Inbox } from "../../src/inbox/inbox.ts"
import type { Database } from "./database.ts"
import type { Process } from "./process.ts"
import type { World } from "./world.ts"

export const inboxOver = (
  world: World,
  database: Database,
  process: Process,
  inbox: Inbox["Service"],
): Inbox["Service"] => {
  const onDatabase = <A, E>(work: Effect.Effect<A, E>) =>
    Effect.provideService(work, Clock.Clock, world.clock)
  const send = <A, E>(work: Effect.Effect<A, E>) => database.statement(process, onDatabase(work))
  /** Statements within a transaction take their time as well. */
  const way = () => Effect.runPromise(Effect.andThen(world.sleep(world.random.next() * 2), process.gate))
  return {
    open: send(inbox.open),
    transact: (body, options) => {
      const transaction = onDatabase(
        inbox.transact(async (tx, claims) => {
          await way()
          try {
            return await body(tx, claims)
          } finally {
            // Its COMMIT or ROLLBACK is on its way.
            await way()
          }
        }, options),
      )
      return database.statement(
        process,
        Effect.suspend(() => {
          const fiber = Effect.runFork(transaction)
          process.onKill(() => void Effect.runFork(Fiber.interrupt(fiber)))
          return Effect.onInterrupt(Fiber.join(fiber), () => Fiber.interrupt(fiber))
        }),
      )
    },
    claim: async (tx, scope, arrivals, ordered) => {
      await way()
      return inbox.claim(tx, scope, arrivals, ordered)
    },
    look: (scope, arrival, ordered) => send(inbox.look(scope, arrival, ordered)),
    resume: async (tx, scope, messageId) => {
      await way()
      return inbox.resume(tx, scope, messageId)
    },
    park: async (tx, scope, arrival, parking) => {
      await way()
      return inbox.park(tx, scope, arrival, parking)
    },
    bury: async (tx, scope, arrival, death) => {
      await way()
      return inbox.bury(tx, scope, arrival, death)
    },
    emit: (tx, draft) => inbox.emit(tx, draft),
    start: (scope, arrival, before, keepMillis) => send(inbox.start(scope, arrival, before, keepMillis)),
    due: (scope, limit, soonest) => send(inbox.due(scope, limit, soonest)),
    join: (member, leaseMillis, ordered) => send(inbox.join(member, leaseMillis, ordered)),
    renew: (member, renewal) => send(inbox.renew(member, renewal)),
    release: (member, afterMillis) => send(inbox.release(member, afterMillis)),
    leave: (member) => send(inbox.leave(member)),
    purge: (scope, olderThanMillis, limit) => send(inbox.purge(scope, olderThanMillis, limit)),
  }
}
