/** What is done to a cell again and again, and what must come of it. */
import type { Lab } from "./lab.ts"
import type { BrokerName, BrokerServer } from "./servers.ts"

export interface Injection {
  /** Messages, or deliveries, in flight at that moment. */
  readonly inFlight: number
  /** `recovery` of the moment from which on things may flow again: the kill, or the end of the outage. */
  readonly recovered: Promise<number | undefined>
  /** Messages that a relay which is gone may have got confirmed without recording it. */
  readonly unrecorded?: number
}

export interface Fault {
  /** For `--only`. */
  readonly name: string
  /** For the table. */
  readonly title: string
  readonly brokers: ReadonlyArray<BrokerName>
  /** Seconds until everything flows again. */
  readonly recovery: number
  /** Before the cell's processes start. */
  readonly prepare?: () => Promise<void>
  readonly inject: (lab: Lab, turn: number) => Promise<Injection>
  /** After the last injection: mends what is still broken. */
  readonly mend?: (lab: Lab) => Promise<void>
  /** What must hold in the end besides; gives what does not. */
  readonly judge?: (lab: Lab) => Promise<ReadonlyArray<string>>
  /** No message may arrive twice. */
  readonly noRepeats?: boolean
  /** Handlers are to fail in this cell: their attempts are not burned. */
  readonly failsHandlers?: boolean
  /** An export of `handler.ts`. Default: `effect`. */
  readonly handler?: string
  readonly relayEnv?: (relay: number, broker: BrokerServer) => Readonly<Record<string, string>>
  /** All processes reach the database through PgBouncer in transaction mode. */
  readonly bouncer?: boolean
  /** Orders go to a queue, which nobody else can listen to. */
  readonly queueOnly?: boolean
}

export interface Cell {
  readonly name: string
  readonly fault: Fault
  readonly broker: BrokerName
  readonly relays: number
}
