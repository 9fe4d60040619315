/** Running relays in tests: in the background of a scope, with the logs kept for assertions. */
import { Effect, Fiber, Layer, Logger } from "effect"
import type postgres from "postgres"
import type { Broker } from "../../src/broker/broker.ts"
import { type RelayOptions, runRelay } from "../../src/relay/relay.ts"
import { layerPolling, type Wakeup } from "../../src/relay/wakeup.ts"
import { layerPostgres } from "../../src/store/postgres.ts"
import type { OutboxStore } from "../../src/store/store.ts"

export interface LogLine {
  readonly level: string
  readonly text: string
  readonly annotations: Record<string, unknown>
}

/** Keeps what is logged instead of printing it. */
export const keepLogs = (lines: LogLine[]) =>
  Logger.layer([
    Logger.make<unknown, void>((entry) => {
      const json = JSON.parse(Logger.formatJson.log(entry)) as { annotations?: Record<string, unknown> }
      lines.push({
        level: entry.logLevel,
        text: Array.isArray(entry.message) ? entry.message.join(" ") : String(entry.message),
        annotations: json.annotations ?? {},
      })
    }),
  ])

/** Starts a relay; the fiber is interrupted (and so drains) with the scope. */
export const startRelay = Effect.fnUntraced(function* <E>(
  layer: Layer.Layer<OutboxStore | Broker | Wakeup, E>,
  options: RelayOptions = {},
  lines: LogLine[] = [],
) {
  const fiber = yield* Effect.acquireRelease(
    Effect.sync(() =>
      Effect.runFork(runRelay(options).pipe(Effect.provide(layer), Effect.provide(keepLogs(lines)))),
    ),
    (fiber) => Effect.asVoid(Fiber.interrupt(fiber)),
  )
  return { fiber, lines, stop: Fiber.interrupt(fiber) }
})

/** The layers of a relay on a test database, polling. */
export const relayLayer = <E>(url: string, broker: Layer.Layer<Broker, E>) =>
  Layer.mergeAll(layerPostgres({ url }), broker, layerPolling)

/** Waits until the assertion holds, at most `seconds`. */
export const eventually = async <A>(check: () => Promise<A> | A, seconds = 10): Promise<A> => {
  const until = performance.now() + seconds * 1000
  for (;;) {
    try {
      return await check()
    } catch (error) {
      if (performance.now() > until) throw error
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
  }
}

/** Writes `count` messages by SQL in one transaction each `perTransaction`, spread over `keys` keys. */
export const writeMessages = async (
  sql: postgres.Sql,
  options: {
    readonly count: number
    readonly keys?: number
    readonly destination?: string
    readonly key?: string
    readonly body?: string
  },
): Promise<void> => {
  await sql`
    INSERT INTO outbox.messages (event, operation, destination, key, body)
    SELECT 'test', 'emit', ${options.destination ?? "/topic/test"},
           CASE WHEN ${options.key ?? null}::text IS NOT NULL THEN ${options.key ?? null}::text
                WHEN ${options.keys ?? 0}::int > 0 THEN 'k' || (n % greatest(1, ${options.keys ?? 0}::int)) END,
           coalesce(${options.body ?? null}::text, json_build_object('n', n)::text)
    FROM generate_series(1, ${options.count}::int) n ORDER BY n`
}
