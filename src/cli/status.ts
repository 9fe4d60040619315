/** `drizzle-outbox status` */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { readInstances, readParked } from "../inbox/operate.ts"
import { storeError } from "../store/error.ts"
import { readBacklog, readRefused, readRelays } from "../store/operate.ts"
import { defineCommand, print } from "./command.ts"
import { connectOutbox } from "./database.ts"
import { duration, formatMillis } from "./duration.ts"
import { CliError } from "./failure.ts"
import { count } from "./kind.ts"
import { makeReport, type StatusReport } from "./status-report.ts"
import { readableReport } from "./status-text.ts"
import { counted } from "./table.ts"

export const statusCommand = defineCommand({
  name: "status",
  summary: "Shows what waits, what was given up, what is held and who works, in outbox and inbox.",
  details:
    "Counts are exact, read from partial indexes: a backlog of a million takes a fraction of a second. The oldest age leaves out messages that are delayed on purpose.",
  settings: ["databaseUrl", "schema"],
  options: {
    maxAge: { kind: duration("0"), help: "Exit 1 when the oldest pending message is older." },
    maxBacklog: { kind: count(0, 1e15), help: "Exit 1 when more messages are pending." },
    limit: { kind: count(1, 100_000), default: "20", help: "Held messages shown at the most." },
    json: { help: "One JSON line." },
  },
  run: (config, options) =>
    Effect.scoped(
      Effect.gen(function* () {
        const sql = yield* connectOutbox(config)
        const report = yield* Effect.tryPromise({
          try: async () =>
            makeReport(
              config.schema,
              await readBacklog(sql, config.schema),
              await readRefused(sql, config.schema, options.limit),
              await readRelays(sql, config.schema),
              await readParked(sql, config.schema),
              await readInstances(sql, config.schema),
            ),
          catch: (cause) => storeError("read the status", cause),
        })
        const exceeded = limitsExceeded(report, options.maxAge, options.maxBacklog)
        yield* print(
          options.json
            ? JSON.stringify({ ok: exceeded.length === 0, exceeded, ...report })
            : readableReport(report),
        )
        if (exceeded.length > 0) return yield* new CliError({ message: exceeded.join("; ") })
      }),
    ),
})

/** A sentence for each limit that is exceeded. */
const limitsExceeded = (
  { backlog, oldestAgeSeconds }: StatusReport,
  maxAge: Duration.Duration | undefined,
  maxBacklog: number | undefined,
): ReadonlyArray<string> => {
  const sentences: string[] = []
  const age = (oldestAgeSeconds ?? 0) * 1000
  if (maxAge !== undefined && age > Duration.toMillis(maxAge))
    sentences.push(
      `the oldest pending message has waited for ${formatMillis(age)}, longer than ${formatMillis(Duration.toMillis(maxAge))}`,
    )
  if (maxBacklog !== undefined && backlog > maxBacklog)
    sentences.push(`${counted(backlog, "message")} pending, more than ${maxBacklog.toLocaleString("en")}`)
  return sentences
}
