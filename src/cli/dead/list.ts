/** `drizzle-outbox dead list` */
import * as Effect from "effect/Effect"
import { storeError } from "../../store/error.ts"
import { defineCommand, print } from "../command.ts"
import { connectOutbox } from "../database.ts"
import { count } from "../kind.ts"
import { counted } from "../table.ts"
import { filterOf, filterOptions } from "./filter.ts"
import { sourceOf } from "./source.ts"

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
        const filter = filterOf(options)
        const source = sourceOf(options.inbox)
        const sql = yield* connectOutbox(config)
        const [{ rows, table }, total] = yield* Effect.tryPromise({
          try: async () =>
            [
              await source.read(sql, config.schema, filter, options.limit),
              await source.count(sql, config.schema, filter),
            ] as const,
          catch: (cause) => storeError("read dead messages", cause),
        })
        if (options.json) return yield* print(JSON.stringify(rows))
        if (total === 0) return yield* print("no dead message")
        yield* print(table)
        if (total > rows.length)
          yield* print(`… and ${counted(total - rows.length, "message")} more (--limit)`)
      }),
    ),
})
