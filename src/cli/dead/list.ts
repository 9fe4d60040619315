/** `drizzle-outbox dead list` */
import { Effect } from "effect"
import { storeError } from "../../store/error.ts"
import { countDead, type DeadRow, readDead } from "../../store/operate.ts"
import { defineCommand, print } from "../command.ts"
import { connectOutbox } from "../database.ts"
import { count } from "../kind.ts"
import { clipped, columns, counted } from "../table.ts"
import { filterOf, filterOptions } from "./filter.ts"

export const listCommand = defineCommand({
  name: "dead list",
  summary: "Lists the messages that were given up, the latest first.",
  settings: ["databaseUrl", "schema"],
  options: {
    ...filterOptions,
    limit: { kind: count(1, 1_000_000), default: "50", help: "Messages at the most." },
    json: { help: "One JSON array instead of a table." },
  },
  run: (config, options) =>
    Effect.scoped(
      Effect.gen(function* () {
        const sql = yield* connectOutbox(config)
        const filter = filterOf(options)
        const [rows, total] = yield* Effect.tryPromise({
          try: async () =>
            [
              await readDead(sql, config.schema, filter, options.limit),
              await countDead(sql, config.schema, filter),
            ] as const,
          catch: (cause) => storeError("read dead messages", cause),
        })
        if (options.json) return yield* print(JSON.stringify(rows.map(deadJson)))
        if (total === 0) return yield* print("no dead message")
        yield* print(deadTable(rows))
        if (total > rows.length)
          yield* print(`… and ${counted(total - rows.length, "message")} more (--limit)`)
      }),
    ),
})

/** Dead messages in columns. */
export const deadTable = (rows: ReadonlyArray<DeadRow>): string =>
  columns([
    ["DIED", "ID", "EVENT", "DESTINATION", "KEY", "ATTEMPTS", "LAST ERROR"],
    ...rows.map((row) => [
      isoOf(row.deadAt).slice(0, 19),
      row.id,
      row.event,
      row.destination,
      row.key ?? "-",
      String(row.attempts),
      clipped(row.lastError ?? "-", 100),
    ]),
  ])

/** A dead message without its body, for programs. */
export const deadJson = (row: DeadRow) => ({
  id: row.id,
  position: Number(row.position),
  event: row.event,
  destination: row.destination,
  key: row.key,
  attempts: row.attempts,
  lastError: row.lastError,
  createdAt: row.createdAt.toISOString(),
  deadAt: isoOf(row.deadAt),
})

const isoOf = (timestamp: string): string => new Date(timestamp).toISOString()
