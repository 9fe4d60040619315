/** `drizzle-outbox dead show` */
import * as Effect from "effect/Effect"
import { storeError } from "../../store/error.ts"
import { defineCommand, print } from "../command.ts"
import { connectOutbox } from "../database.ts"
import { CliError } from "../failure.ts"
import { messageIds } from "../kind.ts"
import { columns } from "../table.ts"
import { filterOf, placeOptions } from "./filter.ts"
import { sourceOf } from "./source.ts"

export const showCommand = defineCommand({
  name: "dead show",
  summary: "Shows dead messages whole, with headers and body.",
  settings: ["databaseUrl", "schema"],
  arguments: ["id"],
  options: {
    ...placeOptions,
    id: { kind: messageIds, help: "The messages." },
    json: { help: "One JSON line a message; a body that is no text is in bodyBase64." },
  },
  run: (config, options) =>
    Effect.scoped(
      Effect.gen(function* () {
        if (options.id === undefined)
          return yield* new CliError({ message: "which message? See drizzle-outbox dead list for their ids" })
        const filter = filterOf(options)
        const sql = yield* connectOutbox(config)
        for (const id of options.id) {
          const messages = yield* Effect.tryPromise({
            try: () => sourceOf(options.inbox).show(sql, config.schema, id, filter),
            catch: (cause) => storeError("read a dead message", cause),
          })
          if (messages.length === 0)
            return yield* new CliError({
              message: `there is no dead message ${id}${options.inbox ? " in the inbox" : ""}`,
            })
          for (const message of messages)
            yield* print(options.json ? JSON.stringify(message) : readable(message))
        }
      }),
    ),
})

const readable = (message: Readonly<Record<string, unknown>>): string => {
  const { headers, body, bodyBase64, ...fields } = message
  const rows = Object.entries(fields)
    .filter(([, value]) => value !== null)
    .map(([name, value]) => [name, String(value)])
  for (const [name, value] of Object.entries(headers as object)) rows.push([`header ${name}`, String(value)])
  rows.push(bodyBase64 === undefined ? ["body", String(body)] : ["body (base64)", String(bodyBase64)])
  return `${columns(rows)}\n`
}
