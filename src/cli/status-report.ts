/** What `status` tells, as programs read it. */
import type { InstanceReport, InstanceRow, ParkedRow } from "../inbox/operate.ts"
import type { BacklogRow, RefusedRow, RelayReportRow, RelayRow } from "../store/operate.ts"
import { LANES } from "../store/store.ts"

export interface StatusReport {
  readonly schema: string
  /** Pending messages, all of them. */
  readonly backlog: number
  /** Of them, those that are delayed or back off. */
  readonly notDue: number
  /** Of the oldest message that is due or was refused; null without one. */
  readonly oldestAgeSeconds: number | null
  readonly dead: number
  /** Refused messages that wait for their next attempt and hold their key: how many, and the first of them. */
  readonly held: number
  readonly heldKeys: ReadonlyArray<{
    readonly destination: string
    readonly key: string | null
    readonly id: string
    readonly event: string
    readonly attempts: number
    readonly lastError: string | null
    readonly nextAttemptAt: string | null
  }>
  readonly heldDestinations: ReadonlyArray<{
    readonly destination: string
    readonly since: string
    readonly words: string
    readonly relay: string
  }>
  readonly relays: ReadonlyArray<{
    readonly id: string
    readonly name: string
    readonly startedAt: string
    /** False: its lease has ended, and its lanes wait for another relay. */
    readonly alive: boolean
    readonly leaseLeftSeconds: number
    readonly lanes: ReadonlyArray<number>
    readonly broker: NonNullable<RelayReportRow["broker"]> | null
    readonly inFlight: number
    readonly publishedTotal: number
  }>
  /** Lanes that no living relay owns. */
  readonly lanesWithoutRelay: number
  readonly inbox: {
    /** Messages that wait for their retry, all of them. */
    readonly parked: number
    /** Since the oldest of them arrived; null without one. */
    readonly oldestParkedSeconds: number | null
    readonly dead: number
    readonly consumers: ReadonlyArray<ConsumerStatus>
  }
}

/** A consumer and a queue: what it has left in the inbox, and who consumes. */
export interface ConsumerStatus {
  readonly consumer: string
  readonly queue: string
  readonly parked: number
  readonly oldestParkedSeconds: number | null
  readonly dead: number
  readonly instances: ReadonlyArray<{
    readonly id: string
    readonly name: string
    readonly startedAt: string
    /** False: its lease has ended, and it was the last one. */
    readonly alive: boolean
    readonly leaseLeftSeconds: number
    /** It has the subscription, where the inbox decides who does. */
    readonly holds: boolean
    readonly connection: string
    readonly words: string | null
    readonly paused: NonNullable<InstanceReport["paused"]> | null
    readonly running: number
    readonly handled: number
    readonly duplicates: number
    readonly failed: number
    readonly dead: number
  }>
}

/** Puts together what the statements gave. */
export const makeReport = (
  schema: string,
  backlog: BacklogRow,
  refused: ReadonlyArray<RefusedRow>,
  relays: ReadonlyArray<RelayRow>,
  parked: ReadonlyArray<ParkedRow>,
  instances: ReadonlyArray<InstanceRow>,
): StatusReport => {
  const living = relays.filter(({ leaseMillis }) => leaseMillis > 0)
  return {
    schema,
    backlog: backlog.pending,
    notDue: backlog.notDue,
    oldestAgeSeconds: seconds(backlog.oldestMillis),
    dead: backlog.dead,
    held: backlog.refused,
    heldKeys: refused.map((row) => ({
      destination: row.destination,
      key: row.key,
      id: row.id,
      event: row.event,
      attempts: row.attempts,
      lastError: row.lastError,
      nextAttemptAt: row.nextAttemptAt?.toISOString() ?? null,
    })),
    heldDestinations: living.flatMap(({ name, state }) =>
      (state.heldDestinations ?? []).map((held) => ({ ...held, relay: name })),
    ),
    relays: relays.map((relay) => ({
      id: relay.id,
      name: relay.name,
      startedAt: relay.startedAt.toISOString(),
      alive: relay.leaseMillis > 0,
      leaseLeftSeconds: Math.max(0, Math.round(relay.leaseMillis) / 1000),
      lanes: relay.lanes,
      broker: relay.state.broker ?? null,
      inFlight: relay.state.inFlight ?? 0,
      publishedTotal: relay.state.publishedTotal ?? 0,
    })),
    lanesWithoutRelay: LANES - living.reduce((sum, { lanes }) => sum + lanes.length, 0),
    inbox: {
      parked: sum(parked.map((row) => row.parked)),
      oldestParkedSeconds: seconds(
        parked.reduce<number | undefined>(
          (most, { oldestMillis }) => (oldestMillis === undefined ? most : Math.max(most ?? 0, oldestMillis)),
          undefined,
        ),
      ),
      dead: sum(parked.map((row) => row.dead)),
      consumers: consumersOf(parked, instances),
    },
  }
}

/** Every consumer and queue that has anything to show, by name. */
const consumersOf = (
  parked: ReadonlyArray<ParkedRow>,
  instances: ReadonlyArray<InstanceRow>,
): ReadonlyArray<ConsumerStatus> => {
  const nameOf = ({ consumer, queue }: { readonly consumer: string; readonly queue: string }) =>
    JSON.stringify([consumer, queue])
  const names = [...new Set([...parked, ...instances].map(nameOf))].sort()
  return names.map((name) => {
    const [consumer, queue] = JSON.parse(name) as [string, string]
    const left = parked.find((row) => nameOf(row) === name)
    return {
      consumer,
      queue,
      parked: left?.parked ?? 0,
      oldestParkedSeconds: seconds(left?.oldestMillis),
      dead: left?.dead ?? 0,
      instances: instances
        .filter((row) => nameOf(row) === name)
        .map(({ id, name, startedAt, leaseMillis, holds, state }) => ({
          id,
          name,
          startedAt: startedAt.toISOString(),
          alive: leaseMillis > 0,
          leaseLeftSeconds: Math.max(0, Math.round(leaseMillis) / 1000),
          holds,
          connection: state.connection ?? "unknown",
          words: state.words ?? null,
          paused: state.paused ?? null,
          running: state.running ?? 0,
          handled: state.handled ?? 0,
          duplicates: state.duplicates ?? 0,
          failed: state.failed ?? 0,
          dead: state.dead ?? 0,
        })),
    }
  })
}

const seconds = (millis: number | undefined): number | null =>
  millis === undefined ? null : Math.round(millis) / 1000

const sum = (numbers: ReadonlyArray<number>): number => numbers.reduce((total, number) => total + number, 0)
