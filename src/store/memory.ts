/** The outbox in memory: the same behaviour as the tables, late commits included, on the clock of the Effect that asks. */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { LANES, OutboxStore, type Seen, type Share, type StoredMessage, type Verdict } from "./store.ts"

/** A message as a writer gives it. */
export interface NewMessage {
  readonly event: string
  readonly destination: string
  readonly key?: string | null
  readonly body: string | Uint8Array
  readonly headers?: Readonly<Record<string, string>>
  readonly contentType?: string
  readonly operation?: string
  readonly version?: string | null
  /** Later delivery, epoch milliseconds. */
  readonly availableAt?: number
  /** End of its life, epoch milliseconds. */
  readonly expiresAt?: number
}

/** A writer's transaction: positions are drawn at `append` and appear at `commit`. */
export interface MemoryTransaction {
  /**
   * Draws the position of the next `append` ahead of it. As in PostgreSQL, the transaction has the table's lock by then,
   * and no id of its own until it has written a row.
   */
  readonly draw: Effect.Effect<number>
  readonly append: (message: NewMessage) => Effect.Effect<number>
  readonly commit: Effect.Effect<void>
  readonly rollback: Effect.Effect<void>
}

/** A message's state, for tests and inspection. */
export interface MemoryRow extends Omit<StoredMessage, "attempts" | "expired"> {
  attempts: number
  lastError: string | null
  availableAt: number | null
  readonly expiresAt: number | null
  publishedAt: number | null
  deadAt: number | null
}

/** The writing and looking half of the memory store; `layerMemory` gives both. */
export class MemoryOutbox extends Context.Service<
  MemoryOutbox,
  {
    readonly begin: Effect.Effect<MemoryTransaction>
    /** Every committed message, in order of position. */
    readonly rows: Effect.Effect<ReadonlyArray<Readonly<MemoryRow>>>
  }
>()("drizzle-outbox/MemoryOutbox") {}

/** An empty outbox in memory. */
export const layerMemory: Layer.Layer<OutboxStore | MemoryOutbox> = Layer.effectContext(
  Effect.sync(() => {
    const { store, outbox } = make()
    return Context.make(OutboxStore, store).pipe(Context.add(MemoryOutbox, outbox))
  }),
)

const make = (): { store: OutboxStore["Service"]; outbox: MemoryOutbox["Service"] } => {
  const rows = new Map<number, MemoryRow>()
  /** Transactions that hold the table's lock, each with what it has written. */
  const open = new Map<string, ReadonlyArray<MemoryRow>>()
  const relays = new Map<string, { expiresAt: number; floor: number }>()
  const owners: { relay: string | undefined; token: number }[] = Array.from({ length: LANES }, () => ({
    relay: undefined,
    token: 0,
  }))
  let drawn = 0
  let transactions = 0

  const sorted = () => [...rows.values()].sort((a, b) => a.position - b.position)
  const pending = (row: MemoryRow) => row.publishedAt === null && row.deadAt === null
  const ready = (row: MemoryRow) => pending(row) && row.availableAt === null
  const toMessage = (row: MemoryRow, now: number): StoredMessage => ({
    ...row,
    expired: row.expiresAt !== null && row.expiresAt <= now,
  })
  const withNow = <A>(f: (now: number) => A): Effect.Effect<A> => Effect.map(Clock.currentTimeMillis, f)
  const live = (relay: string | undefined, now: number) =>
    relay !== undefined && (relays.get(relay)?.expiresAt ?? 0) > now

  const begin = Effect.sync((): MemoryTransaction => {
    const name = `memory/${++transactions}`
    const written: MemoryRow[] = []
    const ahead: number[] = []
    const draw = () => {
      open.set(name, written)
      return ++drawn
    }
    const end = (keep: boolean) =>
      Effect.sync(() => {
        if (keep) for (const row of written) rows.set(row.position, row)
        open.delete(name)
      })
    return {
      draw: Effect.sync(() => {
        const position = draw()
        ahead.push(position)
        return position
      }),
      append: (message) =>
        withNow((now) => {
          const position = ahead.shift() ?? draw()
          const id = uuid(position)
          written.push({
            position,
            lane: laneOf(message.key ?? id),
            id,
            event: message.event,
            eventId: id,
            operation: message.operation ?? "emit",
            destination: message.destination,
            version: message.version ?? null,
            key: message.key ?? null,
            headers: message.headers ?? {},
            contentType: message.contentType ?? "application/json",
            body: message.body,
            createdAt: new Date(now).toISOString(),
            attempts: 0,
            lastError: null,
            availableAt: message.availableAt ?? null,
            expiresAt: message.expiresAt ?? null,
            publishedAt: null,
            deadAt: null,
          })
          return position
        }),
      commit: end(true),
      rollback: end(false),
    }
  })

  const fenced = (verdict: Verdict) => owners[verdict.lane]?.token === verdict.token

  const store: OutboxStore["Service"] = {
    open: Effect.sync(() => Math.max(0, ...[...relays.values()].map((relay) => relay.floor))),

    tick: (tick) =>
      withNow((now): Share => {
        const known = relays.get(tick.relay)
        if (tick.renew && (known === undefined || known.expiresAt > now))
          relays.set(tick.relay, { expiresAt: now + tick.leaseMillis, floor: tick.floor })
        const alive = live(tick.relay, now)
        const count = [...relays.keys()].filter((relay) => live(relay, now)).length
        const mine = () =>
          owners.flatMap((owner, lane) => (owner.relay === tick.relay ? [[lane, owner.token] as const] : []))
        if (alive) {
          let room = Math.ceil(LANES / count) - mine().length
          for (const owner of owners) {
            if (room <= 0) break
            if (live(owner.relay, now)) continue
            owner.relay = tick.relay
            owner.token++
            room--
          }
        }
        const orphans = owners.filter((owner) => !live(owner.relay, now)).length
        return { alive, live: count, orphans, lanes: new Map(alive ? mine() : []) }
      }),

    release: (relay, lanes) =>
      Effect.sync(() => {
        owners.forEach((owner, lane) => {
          if (owner.relay === relay && (lanes === undefined || lanes.includes(lane))) owner.relay = undefined
        })
        const known = relays.get(relay)
        if (lanes === undefined && known !== undefined) known.expiresAt = 0
      }),

    read: (pass) =>
      withNow((now) => {
        const inGap = (position: number) =>
          pass.gaps.some((gap) => gap.low <= position && position <= gap.high)
        const taken = (row: MemoryRow) => ready(row) && pass.lanes.includes(row.lane)
        const behind = pass.from < pass.cursor
        const found = sorted().filter(
          (row) =>
            inGap(row.position) ||
            (behind
              ? row.position > pass.from && row.position <= pass.cursor && taken(row)
              : row.position > pass.cursor),
        )
        const seen: Seen[] = []
        let [bytes, hits, before] = [0, 0, pass.cursor]
        for (const [index, row] of found.entries()) {
          const message = taken(row) ? toMessage(row, now) : undefined
          if (bytes >= pass.bytes || (message !== undefined && hits === pass.limit))
            return { seen, full: true }
          bytes += message?.body.length ?? 0
          if (message !== undefined) hits++
          const { position } = row
          const missing = Math.max(0, position - before - 1)
          before = Math.max(before, position)
          if (message !== undefined || missing > 0 || position <= pass.cursor || index === found.length - 1)
            seen.push({ position, missing, message })
        }
        return { seen, full: false }
      }),

    writers: Effect.sync(() => new Set(open.keys())),

    refused: (lanes) =>
      Effect.sync(() =>
        sorted()
          .filter((row) => pending(row) && row.attempts > 0 && lanes.includes(row.lane))
          .flatMap(({ position, lane, destination, key }) =>
            key === null ? [] : [{ position, lane, destination, key }],
          ),
      ),

    promote: (lanes, limit) =>
      withNow((now) => {
        const due = sorted()
          .filter((row) => pending(row) && row.availableAt !== null && row.availableAt <= now)
          .filter((row) => lanes.has(row.lane) && lanes.get(row.lane) === owners[row.lane]?.token)
          .slice(0, limit)
        for (const row of due) row.availableAt = null
        return due.map((row) => toMessage(row, now))
      }),

    published: (positions, keep) =>
      withNow((now) => {
        for (const position of positions) {
          const row = rows.get(position)
          if (row === undefined) continue
          if (keep)
            Object.assign(row, { publishedAt: row.publishedAt ?? now, deadAt: null, availableAt: null })
          else rows.delete(position)
        }
      }),

    judge: (verdicts) =>
      withNow((now) => {
        const done = new Set<number>()
        for (const verdict of verdicts) {
          const row = rows.get(verdict.position)
          if (row === undefined || !pending(row) || !fenced(verdict)) continue
          row.attempts = verdict.attempts
          row.lastError = verdict.words
          if (verdict.fate === "dead") Object.assign(row, { deadAt: now, availableAt: null })
          else if (verdict.fate !== "pending") row.availableAt = now + verdict.fate.retryInMillis
          done.add(verdict.position)
        }
        return done
      }),

    purge: (request) =>
      withNow((now) => {
        const over = (at: number | null, keep: number | undefined) =>
          at !== null && keep !== undefined && at <= now - keep
        const looked = sorted()
          .filter((row) => row.position > request.after)
          .slice(0, request.limit)
        const gone = looked.filter(
          (row) => over(row.publishedAt, request.publishedMillis) || over(row.deadAt, request.deadMillis),
        )
        for (const row of gone) rows.delete(row.position)
        return {
          deleted: gone.length,
          next: looked.length === request.limit ? looked.at(-1)?.position : undefined,
        }
      }),

    counts: withNow((now) => {
      const waiting = sorted().filter(pending)
      const oldest = waiting.find(ready)
      return {
        pending: waiting.length,
        dead: sorted().filter((row) => row.deadAt !== null).length,
        oldestMillis: oldest === undefined ? 0 : now - Date.parse(oldest.createdAt),
      }
    }),
  }
  return { store, outbox: { begin, rows: Effect.sync(sorted) } }
}

/** FNV-1a, mixed and cut to six bits, a lane: any even spread will do in memory. */
const laneOf = (text: string): number => {
  let hash = 0x811c9dc5
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193)
  return Math.imul(hash ^ (hash >>> 15), 0x85ebca6b) >>> 26
}

/** Ids that sort like positions and repeat from run to run, so that a failing seed fails again. */
const uuid = (n: number): string => `00000000-0000-7000-8000-${n.toString(16).padStart(12, "0")}`
