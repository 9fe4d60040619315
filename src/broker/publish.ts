/** A direct, confirmed send without an outbox: for what no transaction has to cover. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { Broker, BrokerError, type Outgoing, type Settlement } from "./broker.ts"

export interface PublishOptions {
  /** For all confirmations together. Default 10 seconds. */
  readonly timeout?: Duration.Input
}

/**
 * Sends messages in order on a connection of its own and succeeds when the broker has confirmed every one.
 *
 * **Details**  Fails with reason `rejected` (a message was refused, with the broker's words), `unreachable` (the
 * connection ended first) or `timeout`, naming the first such message. What a failure leaves is unknown: other messages
 * of the call may have arrived, and so may the one named, unless it was rejected.
 */
export const publish = Effect.fn("Broker.publish", { kind: "producer" })(function* (
  messages: ReadonlyArray<Outgoing>,
  options: PublishOptions = {},
) {
  if (messages.length === 0) return
  const timeout = Duration.fromInputUnsafe(options.timeout ?? "10 seconds")
  yield* Effect.scoped(
    Effect.gen(function* () {
      const connection = yield* (yield* Broker).connect()
      const waiting = new Set(messages.keys())
      yield* Effect.callback<void, BrokerError>((resume) => {
        connection.send(messages, (index, settlement) => {
          waiting.delete(index)
          const failure = failureOf(messages[index] as Outgoing, settlement)
          if (failure !== undefined) resume(Effect.fail(failure))
          else if (waiting.size === 0) resume(Effect.void)
        })
      }).pipe(
        Effect.timeoutOrElse({
          duration: timeout,
          orElse: () => {
            const [first] = waiting as Set<number>
            const unconfirmed = messages[first ?? 0] as Outgoing
            const message = `no receipt for ${nameOf(unconfirmed)} within ${Duration.format(timeout)}`
            return Effect.fail(new BrokerError({ reason: "timeout", message }))
          },
        }),
      )
    }),
  )
})

const nameOf = ({ id, destination }: Outgoing) => `message ${id} to ${destination}`

const failureOf = (message: Outgoing, settlement: Settlement): BrokerError | undefined => {
  switch (settlement._tag) {
    case "Confirmed":
      return undefined
    case "Refused":
      return new BrokerError({
        reason: "rejected",
        message: `${nameOf(message)} was refused: ${settlement.words}`,
      })
    case "Lost":
      return new BrokerError({
        reason: "unreachable",
        message: `the connection ended before ${nameOf(message)} was confirmed`,
      })
  }
}
