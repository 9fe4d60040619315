/** What wakes a relay before its next poll is due. */
import { createHash } from "node:crypto"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import postgres, { type Sql } from "postgres"
import { readDatabaseUrl } from "../store/database-url.ts"

/** Channel of the wake-up notifications of an outbox schema; of a long name its hash, as a channel's has 63 bytes at the most. */
export const channelOf = (schema: string): string => {
  const channel = `drizzle_outbox_${schema}`
  if (Buffer.byteLength(channel) <= 63) return channel
  return `drizzle_outbox_${createHash("sha256").update(schema).digest("hex").slice(0, 40)}`
}

/**
 * A source of wake-ups. One may come before the commit it announces, or never: the relay looks soon and then ever
 * less often after each, and polls in any case.
 */
export class Wakeup extends Context.Service<
  Wakeup,
  {
    /** Calls `wake` until the scope closes. Never fails: a source that is away is looked for again. */
    readonly listen: (wake: () => void) => Effect.Effect<void, never, Scope.Scope>
  }
>()("drizzle-outbox/Wakeup") {}

/** Nothing wakes the relay: polling alone. */
export const layerPolling: Layer.Layer<Wakeup> = Layer.succeed(Wakeup, { listen: () => Effect.void })

/** Nudges within one process: give it to `defineOutbox` and to the relay's `layerLocal`. */
export interface LocalNudge {
  /** Wakes every relay of this process that listens. Cheap, coalesced by the relay. */
  readonly nudge: () => void
  readonly listeners: Set<() => void>
}

/** Between two NOTIFYs of a process, in milliseconds: each is a transaction, and those of all writers take turns. */
const NOTIFY_PAUSE_MILLIS = 5

export const Nudge = {
  /** For a relay that runs in the writer's process. */
  local: (): LocalNudge => {
    const listeners = new Set<() => void>()
    return {
      listeners,
      nudge: () => {
        for (const wake of listeners) wake()
      },
    }
  },

  /**
   * For relays elsewhere: NOTIFY through `sql`, a client of its own beside the one that writes, never inside the business
   * transaction (where it would take a database-wide lock through the commit). The first is sent at once; what comes while
   * it is under way and for 5 ms after it is one more, as the relay looks again by itself so soon after each. A failure is
   * dropped: polling covers it.
   */
  notify: (sql: Sql, schema = "outbox"): { readonly nudge: () => void } => {
    let running = false
    let again = false
    const run = (): void => {
      running = true
      again = false
      sql`SELECT pg_notify(${channelOf(schema)}, '')`
        .catch(() => {})
        .then(() => {
          setTimeout(() => {
            running = false
            if (again) run()
          }, NOTIFY_PAUSE_MILLIS).unref()
        })
    }
    return {
      nudge: () => {
        if (running) again = true
        else run()
      },
    }
  },
}

/** Wake-ups from a nudge of this process. */
export const layerLocal = (local: LocalNudge): Layer.Layer<Wakeup> =>
  Layer.succeed(Wakeup, {
    listen: (wake) =>
      Effect.asVoid(
        Effect.acquireRelease(
          Effect.sync(() => local.listeners.add(wake)),
          () => Effect.sync(() => local.listeners.delete(wake)),
        ),
      ),
  })

export interface ListenOptions {
  readonly url: string | Redacted.Redacted<string>
  /** Schema of the outbox. Default "outbox". */
  readonly schema?: string
}

/**
 * Wake-ups by LISTEN on a connection of its own, which is opened again when it is lost. Proves itself with an echo at the
 * start: through a transaction pooler LISTEN is deaf, and then a warning says so and polling goes on alone.
 */
export const layerListen = (options: ListenOptions): Layer.Layer<Wakeup> =>
  Layer.succeed(Wakeup, {
    listen: (wake) =>
      Effect.gen(function* () {
        const sql = yield* Effect.acquireRelease(
          Effect.sync(() => {
            const { url, ssl } = readDatabaseUrl(options.url)
            return postgres(url, { ssl, max: 1, onnotice: () => {}, fetch_types: false, backoff: () => 1 })
          }),
          (sql) => Effect.promise(() => sql.end({ timeout: 1 }).catch(() => {})),
        )
        const channel = channelOf(options.schema ?? "outbox")
        let heard = false
        const listening = Effect.tryPromise(() =>
          sql.listen(channel, () => {
            heard = true
            wake()
          }),
        ).pipe(
          Effect.tapError((error) => Effect.logDebug("LISTEN failed, trying again", error)),
          Effect.retry(Schedule.spaced("5 seconds")),
        )
        const echo = Effect.tryPromise(() => sql.notify(channel, "")).pipe(
          Effect.andThen(Effect.sleep("2 seconds")),
          Effect.ignore,
          Effect.andThen(
            Effect.suspend(() =>
              heard
                ? Effect.void
                : Effect.logWarning(
                    "LISTEN hears nothing (a transaction pooler?): the relay polls alone; point it at PostgreSQL itself for wake-ups",
                  ),
            ),
          ),
        )
        yield* Effect.forkScoped(Effect.andThen(listening, echo))
      }),
  })
