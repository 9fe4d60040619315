/** The inbox in memory: the same behaviour as the tables, twins that wait and rollbacks included, on the clock of the Effect that asks. */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import type { AnyTransaction, Draft } from "../outbox/append.ts"
import { type Arrival, type Claim, Inbox, type InboxScope, type Member, RolledBack } from "./inbox.ts"
import { TransactionEnded } from "./transaction-ended.ts"

/** A message's state, for tests and inspection. */
export interface MemoryInboxRow extends InboxScope {
  readonly arrival: Arrival
  readonly position: number
  readonly state: "started" | "handled" | "parked" | "dead"
  readonly attempts: number
  readonly started: number
  /** Epoch milliseconds, as all times here. */
  readonly availableAt: number | null
  readonly finishedAt: number | null
  readonly lastError: string | null
}

/** The looking half of the memory inbox; `layerMemory` gives both. */
export class MemoryInbox extends Context.Service<
  MemoryInbox,
  {
    /** Every committed message in order of arrival. */
    readonly rows: Effect.Effect<ReadonlyArray<MemoryInboxRow>>
    /** What committed transactions wrote to the outbox, in their order. */
    readonly emitted: Effect.Effect<ReadonlyArray<Draft>>
  }
>()("drizzle-outbox/MemoryInbox") {}

/** An empty inbox in memory. Its `tx` is no database: handlers that query need a real one. */
export const layerMemory: Layer.Layer<Inbox | MemoryInbox> = Layer.effectContext(
  Effect.sync(() => {
    const { inbox, looking } = make()
    return Context.make(Inbox, inbox).pipe(Context.add(MemoryInbox, looking))
  }),
)

/** A transaction: the rows as they were before it, and the locks it holds. */
interface Open {
  readonly now: () => number
  readonly before: Map<string, MemoryInboxRow | undefined>
  readonly locks: Set<string>
  readonly drafts: Draft[]
  ended: boolean
}

const make = (): { inbox: Inbox["Service"]; looking: MemoryInbox["Service"] } => {
  const rows = new Map<string, MemoryInboxRow>()
  const members = new Map<string, { readonly member: Member; expiresAt: number }>()
  const subscriptions = new Map<string, { holder: string | undefined; until: number }>()
  const emitted: Draft[] = []
  const open = new WeakMap<object, Open>()
  const owners = new Map<string, Open>()
  const waiting = new Set<() => void>()
  let drawn = 0

  const idOf = ({ consumer }: { readonly consumer: string }, messageId: string) =>
    JSON.stringify([consumer, messageId])
  const scopeOf = ({ consumer, queue }: InboxScope) => JSON.stringify([consumer, queue])
  const lockOf = (scope: InboxScope, key: string) => JSON.stringify([scope.consumer, scope.queue, key])

  const transactionOf = (tx: AnyTransaction): Open => {
    const found = open.get(tx)
    if (found === undefined || found.ended) throw new TransactionEnded()
    return found
  }
  /** Waits until nobody else holds the lock; it is kept until the transaction ends. */
  const lock = async (own: Open, name: string): Promise<void> => {
    for (let owner = owners.get(name); owner !== undefined && owner !== own; owner = owners.get(name))
      await new Promise<void>((resolve) => waiting.add(resolve))
    if (own.ended) throw new TransactionEnded()
    owners.set(name, own)
    own.locks.add(name)
  }
  const lockKey = async (own: Open, scope: InboxScope, key: string | null): Promise<void> => {
    if (key !== null && scope.ordered !== false) await lock(own, `key ${lockOf(scope, key)}`)
  }
  const write = (own: Open, id: string, row: MemoryInboxRow): void => {
    if (!own.before.has(id)) own.before.set(id, rows.get(id))
    rows.set(id, row)
  }
  const end = (own: Open, keep: boolean): void => {
    if (own.ended) return
    own.ended = true
    if (keep) emitted.push(...own.drafts)
    else
      for (const [id, row] of own.before)
        if (row === undefined) rows.delete(id)
        else rows.set(id, row)
    for (const name of own.locks) owners.delete(name)
    for (const resolve of waiting) resolve()
    waiting.clear()
  }

  /** What has committed: rows that others have changed are seen as they were. */
  const committed = (): MemoryInboxRow[] => {
    const seen = new Map(rows)
    for (const own of new Set(owners.values()))
      for (const [id, row] of own.before)
        if (row === undefined) seen.delete(id)
        else seen.set(id, row)
    return [...seen.values()].sort((a, b) => a.position - b.position)
  }
  const parkedIn = (all: Iterable<MemoryInboxRow>, scope: InboxScope) =>
    [...all]
      .filter((row) => row.state === "parked" && scopeOf(row) === scopeOf(scope))
      .sort((a, b) => a.position - b.position)
  const holdsBack = (all: Iterable<MemoryInboxRow>, scope: InboxScope, key: string | null) =>
    key !== null && parkedIn(all, scope).some((row) => row.arrival.key === key)

  const promote = (own: Open, of: MemoryInboxRow): void => {
    const { key } = of.arrival
    if (key === null) return
    const [head] = parkedIn(rows.values(), of).filter((row) => row.arrival.key === key)
    if (head !== undefined && head.availableAt === null)
      write(own, idOf(head, head.arrival.messageId), { ...head, availableAt: own.now() })
  }
  const blank = (scope: InboxScope, arrival: Arrival): MemoryInboxRow => ({
    consumer: scope.consumer,
    queue: scope.queue,
    arrival,
    position: ++drawn,
    state: "started",
    attempts: 0,
    started: 0,
    availableAt: null,
    finishedAt: null,
    lastError: null,
  })

  const claim = async (own: Open, scope: InboxScope, arrival: Arrival, ordered: boolean): Promise<Claim> => {
    const id = idOf(scope, arrival.messageId)
    if (ordered && holdsBack(rows.values(), scope, arrival.key)) {
      const known = rows.get(id)
      return known === undefined || known.state === "started" ? "behind" : "settled"
    }
    await lock(own, `row ${id}`)
    const known = rows.get(id)
    if (known !== undefined && known.state !== "started") return "settled"
    write(own, id, { ...(known ?? blank(scope, arrival)), state: "handled", finishedAt: own.now() })
    return "fresh"
  }

  const holds = (member: Member, now: number) => {
    const found = subscriptions.get(scopeOf(member))
    return found?.holder === member.id && found.until > now
  }
  const withNow = <A>(f: (now: number) => A): Effect.Effect<A> => Effect.map(Clock.currentTimeMillis, f)

  const inbox: Inbox["Service"] = {
    open: Effect.void,

    transact: (body, { claim, onCommit }) =>
      Effect.clockWith((clock) =>
        Effect.callback((resume) => {
          const own: Open = {
            now: () => clock.currentTimeMillisUnsafe(),
            before: new Map(),
            locks: new Set(),
            drafts: [],
            ended: false,
          }
          const tx = noDatabase()
          open.set(tx, own)
          const settle = (keep: boolean, exit: Exit.Exit<never, RolledBack> | undefined, value?: unknown) => {
            if (own.ended) return
            end(own, keep)
            resume(exit ?? (Exit.succeed(value) as never))
          }
          Promise.resolve()
            .then(() =>
              claim === undefined ? [] : inbox.claim(tx, claim.scope, claim.arrivals, claim.ordered),
            )
            .then((claims) => body(tx, claims))
            .then(
              (value) => {
                if (!own.ended) onCommit?.()
                settle(true, undefined, value)
              },
              (cause) => settle(false, Exit.fail(new RolledBack({ cause }))),
            )
          return Effect.sync(() => end(own, false))
        }),
      ),

    claim: async (tx, scope, arrivals, ordered) => {
      const own = transactionOf(tx)
      const keys = arrivals.flatMap(({ key }) => (key === null ? [] : [key]))
      if (ordered) for (const key of [...new Set(keys)].sort()) await lockKey(own, scope, key)
      const claims = new Map<number, Claim>()
      const sorted = [...arrivals.entries()].sort(([, a], [, b]) => (a.messageId < b.messageId ? -1 : 1))
      for (const [index, arrival] of sorted) claims.set(index, await claim(own, scope, arrival, ordered))
      return arrivals.map((_, index) => claims.get(index) ?? "settled")
    },

    look: (scope, arrival, ordered) =>
      Effect.sync(() => {
        const all = committed()
        const known = all.find((row) => idOf(row, row.arrival.messageId) === idOf(scope, arrival.messageId))
        if (known !== undefined && known.state !== "started") return "settled"
        return ordered && holdsBack(all, scope, arrival.key) ? "behind" : "fresh"
      }),

    resume: async (tx, scope, messageId) => {
      const own = transactionOf(tx)
      const id = idOf(scope, messageId)
      if (owners.has(`resume ${id}`)) return false
      await lock(own, `resume ${id}`)
      const known = rows.get(id)
      if (known?.state !== "parked") return false
      await lockKey(own, { ...known, ordered: scope.ordered ?? true }, known.arrival.key)
      await lock(own, `row ${id}`)
      const row = rows.get(id)
      if (row?.state !== "parked") return false
      write(own, id, { ...row, state: "handled", finishedAt: own.now(), availableAt: null })
      promote(own, row)
      return true
    },

    park: async (tx, scope, arrival, { attempts, error, retryInMillis }) => {
      const own = transactionOf(tx)
      const id = idOf(scope, arrival.messageId)
      await lockKey(own, scope, arrival.key)
      await lock(own, `row ${id}`)
      const known = rows.get(id)
      const anew = known === undefined || known.state === "started"
      if (!anew && !(known.state === "parked" && retryInMillis !== null)) return
      const availableAt =
        retryInMillis !== null
          ? own.now() + retryInMillis
          : holdsBack(rows.values(), scope, arrival.key)
            ? null
            : own.now()
      write(own, id, {
        ...(known ?? blank(scope, arrival)),
        arrival,
        state: "parked",
        attempts,
        started: 0,
        availableAt,
        lastError: error ?? known?.lastError ?? null,
      })
    },

    bury: async (tx, scope, arrival, { attempts, error }) => {
      const own = transactionOf(tx)
      const id = idOf(scope, arrival.messageId)
      await lockKey(own, scope, arrival.key)
      await lock(own, `row ${id}`)
      const known = rows.get(id)
      if (known?.state === "handled" || known?.state === "dead") return false
      const row: MemoryInboxRow = {
        ...(known ?? blank(scope, arrival)),
        arrival,
        state: "dead",
        attempts,
        availableAt: null,
        finishedAt: own.now(),
        lastError: error,
      }
      write(own, id, row)
      promote(own, row)
      return true
    },

    emit: async (tx, draft) => {
      transactionOf(tx).drafts.push(draft)
    },

    start: (scope, arrival, before, keepMillis) =>
      Effect.flatMap(Clock.currentTimeMillis, (now) =>
        Effect.promise(async () => {
          const id = idOf(scope, arrival.messageId)
          const own: Open = { now: () => 0, before: new Map(), locks: new Set(), drafts: [], ended: false }
          if (owners.has(`resume ${id}`)) return 0
          await lock(own, `row ${id}`)
          const known = rows.get(id) ?? blank(scope, arrival)
          const counts =
            (known.state === "started" || known.state === "parked") &&
            known.started === (before ?? known.started)
          const kept = known.state === "parked" && keepMillis !== undefined
          const availableAt = kept ? now + keepMillis : known.availableAt
          if (counts) write(own, id, { ...known, started: known.started + 1, availableAt })
          end(own, true)
          return counts ? known.started + 1 : 0
        }),
      ),

    due: (scope, limit, soonest) =>
      withNow((now) => {
        const all = parkedIn(committed(), scope)
          .flatMap((row) => (row.availableAt === null ? [] : [{ ...row, availableAt: row.availableAt }]))
          .sort((a, b) => a.availableAt - b.availableAt || a.position - b.position)
        const given = all.slice(0, soonest ? 1 : limit).filter((row) => soonest || row.availableAt <= now)
        const next = all[given.length]
        return {
          parked: given.map(({ arrival, attempts, started }) => ({ arrival, attempts, started })),
          nextMillis: next === undefined ? undefined : Math.max(0, next.availableAt - now),
        }
      }),

    join: (member, leaseMillis, ordered) =>
      withNow((now) => {
        const others = [...members.values()].filter(
          (other) => scopeOf(other.member) === scopeOf(member) && other.member.id !== member.id,
        )
        for (const other of others) if (other.expiresAt <= now) members.delete(other.member.id)
        members.set(member.id, { member, expiresAt: now + leaseMillis })
        if (!ordered)
          for (const row of parkedIn(rows.values(), member))
            if (row.availableAt === null)
              rows.set(idOf(row, row.arrival.messageId), { ...row, availableAt: now })
        return others.length > 0
      }),

    renew: (member, { leaseMillis, hold }) =>
      withNow((now) => {
        members.set(member.id, { member, expiresAt: now + leaseMillis })
        const found = subscriptions.get(scopeOf(member))
        if (hold && (found === undefined || found.holder === member.id || found.until <= now))
          subscriptions.set(scopeOf(member), { holder: member.id, until: now + leaseMillis })
        return holds(member, now)
      }),

    release: (member, afterMillis) =>
      withNow((now) => {
        if (subscriptions.get(scopeOf(member))?.holder === member.id)
          subscriptions.set(scopeOf(member), { holder: undefined, until: now + afterMillis })
      }),

    leave: (member) =>
      Effect.sync(() => {
        if (subscriptions.get(scopeOf(member))?.holder === member.id) subscriptions.delete(scopeOf(member))
        members.delete(member.id)
      }),

    purge: (scope, olderThanMillis, limit) =>
      withNow((now) => {
        const old = committed()
          .filter((row) => row.consumer === scope.consumer && row.state === "handled")
          .filter((row) => (row.finishedAt ?? now) <= now - olderThanMillis)
          .slice(0, limit)
        for (const row of old) rows.delete(idOf(row, row.arrival.messageId))
        return old.length
      }),
  }
  return {
    inbox,
    looking: { rows: Effect.sync(committed), emitted: Effect.sync(() => [...emitted]) },
  }
}

/** A `tx` that says so when it is used as a database. */
const noDatabase = (): AnyTransaction =>
  new Proxy({} as AnyTransaction, {
    get: (_, name) => {
      // What tells promises, and Drizzle's own instances, from others.
      if (typeof name === "symbol" || name === "then" || name === "constructor") return undefined
      throw new Error(
        `the inbox in memory has no database, so its tx has no "${name}": use layerPostgres for handlers that query`,
      )
    },
  })
