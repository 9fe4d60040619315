/** The consumer as a process, behind a link to the broker. */
import { type ConsumerProcess, spawnConsumer } from "../support/consumer-process.ts"
import { type Proxy as Link, startProxy } from "../support/proxy.ts"
import { type InFlight, watchFrames } from "./in-flight.ts"
import { HEARTBEAT, portOf, through } from "./relays.ts"

export interface ConsumerUnit {
  readonly broker: Link
  /** Deliveries that it has and has not acknowledged. */
  readonly frames: InFlight
  readonly process: () => ConsumerProcess
  /** Starts another process in its place; gives the last one. */
  readonly start: () => ConsumerProcess
  /** How often its processes have subscribed. */
  readonly subscriptions: () => number
  readonly output: () => string
  readonly close: () => Promise<void>
}

export interface ConsumerUnitOptions {
  readonly databaseUrl: string
  readonly brokerUrl: string
  readonly destination: string
  /** An export of `handler.ts`. */
  readonly handler: string
  readonly env: Readonly<Record<string, string>>
}

export const startConsumerUnit = async (options: ConsumerUnitOptions): Promise<ConsumerUnit> => {
  const { databaseUrl, brokerUrl, destination, handler, env } = options
  const frames = watchFrames(async () => 0)
  const broker = await startProxy(portOf(brokerUrl), { tap: frames.tap })
  const processes: ConsumerProcess[] = []
  const start = () => {
    processes.push(
      spawnConsumer({
        module: `./build/test/faults/handler.js#${handler}`,
        destination,
        consumer: "billing",
        databaseUrl,
        brokerUrl: through(brokerUrl, broker),
        env: { OUTBOX_HEARTBEAT: `${HEARTBEAT}s`, ...env },
      }),
    )
    return processes.at(-2) as ConsumerProcess
  }
  start()
  return {
    broker,
    frames,
    process: () => processes.at(-1) as ConsumerProcess,
    start,
    subscriptions: () =>
      processes.reduce(
        (count, process) => count + process.lines().filter(({ message }) => message === "subscribed").length,
        0,
      ),
    output: () => processes.map((process) => process.stdout() + process.stderr()).join(""),
    close: async () => {
      for (const process of processes) process.kill("SIGKILL")
      await Promise.all(processes.map(({ exited }) => exited))
      await broker.close()
    },
  }
}
