/** What `status` tells, as programs read it. */
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
}

/** Puts together what the statements gave. */
export const makeReport = (
  schema: string,
  backlog: BacklogRow,
  refused: ReadonlyArray<RefusedRow>,
  relays: ReadonlyArray<RelayRow>,
): StatusReport => {
  const living = relays.filter(({ leaseMillis }) => leaseMillis > 0)
  return {
    schema,
    backlog: backlog.pending,
    notDue: backlog.notDue,
    oldestAgeSeconds: backlog.oldestMillis === undefined ? null : Math.round(backlog.oldestMillis) / 1000,
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
  }
}
