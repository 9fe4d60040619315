/** `drizzle-outbox dead show` */
import { Effect } from "effect"
import { storeError } from "../../store/error.ts"
import { type DeadMessage, readDeadMessage } from "../../store/operate.ts"
import { defineCommand, print } from "../command.ts"
import { connectOutbox } from "../database.ts"
import { CliError } from "../failure.ts"
import { messageIds } from "../kind.ts"
import { columns } from "../table.ts"
import { deadJson } from "./list.ts"

export const showCommand = defineCommand({
  name: "dead show",
  summary: "Shows dead messages whole, with headers and body.",
  settings: ["databaseUrl", "schema"],
  arguments: ["id"],
  options: {
    id: { kind: messageIds, help: "The messages." },
    json: { help: "One JSON line a message; a body that is no text is in bodyBase64." },
  },
  run: (config, { id: ids, json }) =>
    Effect.scoped(
      Effect.gen(function* () {
        if (ids === undefined)
          return yield* new CliError({ message: "which message? See drizzle-outbox dead list for their ids" })
        const sql = yield* connectOutbox(config)
        for (const id of ids) {
          const message = yield* Effect.tryPromise({
            try: () => readDeadMessage(sql, config.schema, id),
            catch: (cause) => storeError("read a dead message", cause),
          })
          if (message === undefined) return yield* new CliError({ message: `there is no dead message ${id}` })
          yield* print(json ? JSON.stringify(wholeJson(message)) : readable(message))
        }
      }),
    ),
})

const wholeJson = (message: DeadMessage) => ({
  ...deadJson(message),
  eventId: message.eventId,
  operation: message.operation,
  version: message.version,
  headers: message.headers,
  contentType: message.contentType,
  expiresAt: message.expiresAt?.toISOString() ?? null,
  ...(message.bodyBytes === null
    ? { body: message.body }
    : { bodyBase64: Buffer.from(message.bodyBytes).toString("base64") }),
})

const readable = (message: DeadMessage): string => {
  const { headers, body, bodyBase64, ...fields } = wholeJson(message) as Record<string, unknown>
  const rows = Object.entries(fields)
    .filter(([, value]) => value !== null)
    .map(([name, value]) => [name, String(value)])
  for (const [name, value] of Object.entries(headers as object)) rows.push([`header ${name}`, String(value)])
  rows.push(bodyBase64 === undefined ? ["body", String(body)] : ["body (base64)", String(bodyBase64)])
  return `${columns(rows)}\n`
}
