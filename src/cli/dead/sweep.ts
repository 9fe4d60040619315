/** What `dead requeue` and `dead discard` have in common: which messages, how many, in batches. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Sql } from "postgres"
import type { Config } from "../../config.ts"
import type { InboxDeadFilter } from "../../inbox/operate.ts"
import { type StoreError, storeError } from "../../store/error.ts"
import { type DeadBatch, type DeadPlace, readNow } from "../../store/operate.ts"
import { type OptionValues, print } from "../command.ts"
import { connectOutbox } from "../database.ts"
import { CliError } from "../failure.ts"
import { count } from "../kind.ts"
import { counted } from "../table.ts"
import { filterOf, filterOptions, isEverything } from "./filter.ts"
import { type DeadSource, sourceOf } from "./source.ts"

const BATCH = 1000
/** Of a dry run, so many messages are shown. */
const SHOWN = 20

export const sweepOptions = {
  ...filterOptions,
  all: { help: "Every dead message: needed where no filter is given." },
  limit: {
    kind: count(1, 1_000_000_000),
    help: "Messages at the most, the earliest death first. Default: no limit.",
  },
  dryRun: { help: "Changes nothing and shows what it would be done to." },
  json: { help: 'One JSON line: {"count":…,"dryRun":…}.' },
} as const

interface Words {
  readonly name: "requeue" | "discard"
  readonly done: string
}

/** Sweeps over the dead messages that fit, in batches of 1,000, each a transaction of its own. */
export const sweep = (
  words: Words,
  config: Config<"databaseUrl" | "schema">,
  options: OptionValues<typeof sweepOptions>,
): Effect.Effect<void, StoreError | CliError> =>
  Effect.scoped(
    Effect.gen(function* () {
      const filter = filterOf(options)
      if (isEverything(filter) && !options.all)
        return yield* new CliError({
          message: `no filter is given: add one (${options.inbox ? "--consumer, " : ""}--destination, --event, --key, --error, --id), or --all to ${words.name} every dead message`,
        })
      const source = sourceOf(options.inbox)
      const sql = yield* connectOutbox(config)
      const total = options.dryRun
        ? yield* rehearse(source, sql, config.schema, filter, options)
        : yield* carryOut(words, source, sql, config.schema, filter, options.limit)
      if (options.json) return yield* print(JSON.stringify({ count: total, dryRun: options.dryRun }))
      yield* print(`${counted(total, "message")} ${options.dryRun ? "would be " : ""}${words.done}`)
    }),
  )

const rehearse = (
  source: DeadSource,
  sql: Sql,
  schema: string,
  filter: InboxDeadFilter,
  { limit, json }: OptionValues<typeof sweepOptions>,
): Effect.Effect<number, StoreError> =>
  Effect.tryPromise({
    try: async () => {
      const found = await source.count(sql, schema, filter)
      const shown = json || found === 0 ? undefined : await source.read(sql, schema, filter, SHOWN)
      return { shown, found }
    },
    catch: (cause) => storeError("read dead messages", cause),
  }).pipe(
    Effect.tap(({ shown, found }) =>
      shown === undefined
        ? Effect.void
        : print(
            `${shown.table}${found > shown.rows.length ? `\n… and ${counted(found - shown.rows.length, "message")} more` : ""}`,
          ),
    ),
    Effect.map(({ found }) => Math.min(found, limit ?? found)),
  )

const carryOut = Effect.fnUntraced(function* (
  words: Words,
  source: DeadSource,
  sql: Sql,
  schema: string,
  filter: InboxDeadFilter,
  limit = Number.POSITIVE_INFINITY,
): Effect.fn.Return<number, StoreError, Scope.Scope> {
  const run = <A>(ask: () => Promise<A>) =>
    Effect.tryPromise({ try: ask, catch: (cause) => storeError(`${words.name} dead messages`, cause) })
  // What dies again meanwhile is not swept a second time.
  const until = yield* run(() => readNow(sql))
  let after: DeadPlace | undefined
  let total = 0
  while (total < limit) {
    const batch: DeadBatch = { after, until, limit: Math.min(BATCH, limit - total) }
    const done = yield* run(() => source[words.name](sql, schema, filter, batch))
    after = done.at(-1)
    if (after === undefined) break
    total += done.length
    if (done.length === BATCH) process.stderr.write(`${total.toLocaleString("en")} ${words.done} …\n`)
  }
  return total
})
