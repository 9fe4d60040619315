/** Relays as processes, each behind links of its own to the broker and to the database. */
import { type Proxy as Link, startProxy } from "../support/proxy.ts"
import { type RelayProcess, spawnRelay } from "../support/relay-process.ts"
import { type InFlight, watchFrames } from "./in-flight.ts"

/** Seconds; the bounds of recovery follow from it. */
export const LEASE = 3
/** Seconds: how often broker and clients show each other that they live. */
export const HEARTBEAT = 2
/** Messages in flight at the most. */
export const WINDOW = 500

export interface RelayUnit {
  readonly name: string
  readonly broker: Link
  readonly database: Link
  readonly frames: InFlight
  /** The process that runs now. */
  readonly process: () => RelayProcess
  /** Starts another process in its place, whatever became of the last; gives that. */
  readonly start: () => RelayProcess
  /** Everything that its processes printed. */
  readonly output: () => string
  readonly close: () => Promise<void>
}

export interface RelayUnitOptions {
  readonly name: string
  readonly databaseUrl: string
  readonly brokerUrl: string
  readonly env: Readonly<Record<string, string>>
  /** How many of these messages were not recorded as published at this moment. */
  readonly unrecorded: (ids: ReadonlyArray<string>, at: Date) => Promise<number>
}

export const startRelayUnit = async (options: RelayUnitOptions): Promise<RelayUnit> => {
  const { name, databaseUrl, brokerUrl, env } = options
  const frames = watchFrames(options.unrecorded)
  const broker = await startProxy(portOf(brokerUrl), { tap: frames.tap })
  const database = await startProxy(portOf(databaseUrl))
  const processes: RelayProcess[] = []
  const start = () => {
    processes.push(
      spawnRelay(through(databaseUrl, database), through(brokerUrl, broker), {
        OUTBOX_RELAY_NAME: name,
        OUTBOX_LEASE: `${LEASE}s`,
        OUTBOX_HEARTBEAT: `${HEARTBEAT}s`,
        OUTBOX_RECEIPT_TIMEOUT: "5s",
        OUTBOX_WINDOW: String(WINDOW),
        ...env,
      }),
    )
    return processes.at(-2) as RelayProcess
  }
  start()
  return {
    name,
    broker,
    database,
    frames,
    process: () => processes.at(-1) as RelayProcess,
    start,
    output: () => processes.map((process) => process.output()).join(""),
    close: async () => {
      await Promise.all(processes.map((process) => process.stop("SIGKILL")))
      await Promise.all([broker.close(), database.close()])
    },
  }
}

export const portOf = (url: string): number => Number(new URL(url.replace(/^[a-z]+:/, "http:")).port)

/** The same URL by way of a proxy. */
export const through = (url: string, { port }: Link): string =>
  url.replace(/^([a-z]+:\/\/(?:[^/@]*@)?[^/:]+):\d+/, (_, host: string) => `${host}:${port}`)
