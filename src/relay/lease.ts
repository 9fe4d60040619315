/** Lanes and their lease: renews it, takes the relay's share, gives back what is above it. */
import * as Effect from "effect/Effect"
import { LANES, type Share } from "../store/store.ts"
import { loseLease, type RelayState } from "./state.ts"

/** Looks at the lanes every tenth of the lease, at most a second apart, and renews the lease when a quarter of it has gone. */
export const leaseLoop = Effect.fnUntraced(function* (state: RelayState) {
  const { leaseMillis, onTick } = state.settings
  const every = Math.min(1000, leaseMillis / 10)
  let renewedAt = Number.NEGATIVE_INFINITY
  let holder = ""
  let shown = ""
  let warned = ""
  while (true) {
    const start = state.now()
    if (state.lanes.size > 0 && start >= state.deadline) loseLease(state)
    if (holder !== state.id) {
      holder = state.id
      renewedAt = Number.NEGATIVE_INFINITY
    }
    const { broker, heldDestinations } = describe(state)
    const news = JSON.stringify([broker, heldDestinations.map(({ destination }) => destination)])
    const renew = start - renewedAt >= leaseMillis / 4 || news !== shown
    yield* state.store
      .tick({
        relay: holder,
        name: state.settings.name,
        leaseMillis,
        renew,
        floor: state.cursor.floor(),
        state: JSON.stringify(describe(state)),
      })
      .pipe(
        Effect.flatMap((share) => {
          if (!share.alive) {
            loseLease(state)
            return Effect.void
          }
          state.orphans = share.orphans
          if (renew) {
            renewedAt = start
            shown = news
            state.deadline = start + leaseMillis
          }
          return share.lanes.size === 0 && state.lanes.size === 0 ? Effect.void : adopt(state, share)
        }),
        Effect.andThen(onTick),
        Effect.tap(() => {
          warned = ""
          return Effect.void
        }),
        Effect.catch((error) => {
          // Once a trouble, not once a second.
          const news = error.message !== warned
          warned = error.message
          return news ? Effect.logWarning(error.message) : Effect.void
        }),
      )
    yield* Effect.sleep(every)
  }
})

const adopt = Effect.fnUntraced(function* (state: RelayState, share: Share) {
  const gained = [...share.lanes].filter(([lane, token]) => state.lanes.get(lane) !== token)
  const lost = [...state.lanes.keys()].filter((lane) => !share.lanes.has(lane))
  forget(state, lost)

  if (gained.length > 0) {
    const names = gained.map(([lane]) => lane)
    forget(state, names)
    const refused = yield* state.store.refused(names)
    state.window.hold(refused, new Set(names))
    for (const [lane, token] of gained) state.lanes.set(lane, token)
    state.cursor.rewind(1)
    state.wake.raise()
    yield* Effect.logInfo("lanes taken").pipe(
      Effect.annotateLogs({ taken: gained.length, held: state.lanes.size, relays: share.live }),
    )
  }

  const limit = Math.ceil(LANES / Math.max(1, share.live))
  const staying = [...state.lanes.keys()].filter((lane) => !state.leaving.has(lane))
  for (const lane of staying.slice(limit)) state.leaving.add(lane)
  // Only lanes that somebody lacks need to go; one that was to leave and is not wanted any more is read again.
  if (staying.length < limit && state.leaving.size > 0) {
    for (const lane of [...state.leaving].slice(0, limit - staying.length)) state.leaving.delete(lane)
    state.cursor.rewind(1)
    state.wake.raise()
  }
  const free = [...state.leaving].filter((lane) => !state.window.busy(lane))
  if (free.length > 0) {
    yield* state.store.release(state.id, free)
    forget(state, free)
    yield* Effect.logInfo("lanes given back").pipe(
      Effect.annotateLogs({ given: free.length, held: state.lanes.size, relays: share.live }),
    )
  }
})

const forget = (state: RelayState, lanes: ReadonlyArray<number>): void => {
  for (const lane of lanes) {
    state.lanes.delete(lane)
    state.leaving.delete(lane)
  }
  if (lanes.length > 0) state.window.dropLanes(new Set(lanes))
}

/** What `status` shows of a relay. */
const describe = (state: RelayState) => ({
  broker: {
    profile: state.connection?.profile.name,
    server: state.brokerServer,
    state: state.brokerState,
    words: state.brokerWords,
  },
  heldDestinations: [...state.window.destinations].map(([destination, held]) => ({
    destination,
    since: new Date(Date.now() - (state.now() - held.since)).toISOString(),
    words: held.words,
  })),
  inFlight: state.window.flights.size,
  publishedTotal: state.counts.published,
})
