/** A consumer on the memory broker and the memory inbox, and what became of its messages. */
import { randomUUID } from "node:crypto"
import { Effect, Fiber, Layer, Logger, ManagedRuntime, Schedule } from "effect"
import type { Broker } from "../../src/broker/broker.ts"
import { layerMemory as layerMemoryBroker, MemoryBroker } from "../../src/broker/memory.ts"
import { publish } from "../../src/broker/publish.ts"
import type { Consumer } from "../../src/consumer/index.ts"
import type { Inbox } from "../../src/inbox/inbox.ts"
import { layerMemory as layerMemoryInbox, MemoryInbox, type MemoryInboxRow } from "../../src/inbox/memory.ts"

export const soon = { retry: Schedule.spaced("20 millis") }

export interface Sent {
  readonly id?: string | undefined
  readonly key?: string
  readonly body?: unknown
  readonly headers?: Readonly<Record<string, string>>
}

export interface Line {
  readonly level: string
  readonly text: string
}

export interface Bench {
  /** Starts another instance. */
  readonly start: (consumer: Consumer) => Running
  readonly send: (...messages: ReadonlyArray<Sent>) => Promise<void>
  readonly broker: MemoryBroker["Service"]
  readonly rows: () => Promise<ReadonlyArray<MemoryInboxRow>>
  readonly emitted: () => Promise<ReadonlyArray<{ readonly destination: string; readonly headers: string }>>
  readonly logs: ReadonlyArray<Line>
  readonly close: () => Promise<void>
}

export interface Running {
  readonly stop: () => Promise<void>
  /** How it ended, as text. */
  readonly ended: Promise<string>
}

export const makeBench = async (destination = "/queue/orders"): Promise<Bench> => {
  const logs: Line[] = []
  const logger = Logger.make(({ logLevel, message }) => {
    logs.push({ level: logLevel, text: String(message) })
  })
  const runtime = ManagedRuntime.make(
    Layer.mergeAll(layerMemoryBroker(), layerMemoryInbox, Logger.layer([logger])),
  )
  const broker = await runtime.runPromise(MemoryBroker)
  const running: Running[] = []
  return {
    start: (consumer) => {
      const fiber = runtime.runFork(consumer as Effect.Effect<never, unknown, Broker | Inbox>)
      const instance = {
        stop: () => Effect.runPromise(Effect.asVoid(Fiber.interrupt(fiber))),
        ended: new Promise<string>((resolve) => fiber.addObserver((exit) => resolve(String(exit)))),
      }
      running.push(instance)
      return instance
    },
    send: (...messages) =>
      runtime.runPromise(
        publish(
          messages.map(({ id = randomUUID(), key, body, headers }) => ({
            id,
            destination,
            contentType: "application/json",
            body:
              body instanceof Uint8Array || typeof body === "string" ? body : JSON.stringify(body ?? null),
            headers: {
              ...(id !== "" && { "outbox-message-id": id }),
              ...(key !== undefined && { "outbox-key": key }),
              ...headers,
            },
          })),
        ),
      ),
    broker,
    rows: () => runtime.runPromise(MemoryInbox.use(({ rows }) => rows)),
    emitted: () => runtime.runPromise(MemoryInbox.use(({ emitted }) => emitted)),
    logs,
    close: async () => {
      await Promise.all(running.map(({ stop }) => stop()))
      await runtime.dispose()
    },
  }
}

/** Repeats an assertion until it holds. */
export const eventually = async (
  assertion: () => void | Promise<void>,
  milliseconds = 5_000,
): Promise<void> => {
  const deadline = performance.now() + milliseconds
  for (;;) {
    try {
      return await assertion()
    } catch (error) {
      if (performance.now() > deadline) throw error
      await new Promise((resolve) => setTimeout(resolve, 10))
    }
  }
}
