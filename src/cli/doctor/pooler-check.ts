/** A pooler between us and PostgreSQL that gives each transaction another server connection. */
import * as Effect from "effect/Effect"
import type * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import { connect } from "../../store/connect.ts"
import type { StoreError } from "../../store/error.ts"
import { type Finding, ok, problem, unchecked, warning } from "./finding.ts"

const ROUNDS = 5
const REMEDY =
  "point relays at PostgreSQL itself, if they can reach it (5 connections each); writers and consumers may stay behind the pooler"

/**
 * Two clients that are connected at the same time never share a server connection, nor does one change it, unless
 * something pools them by transaction or statement. `listen`: whether relays are set to wake up by LISTEN.
 */
export const checkPooler = (
  url: Redacted.Redacted<string>,
  listen: boolean,
): Effect.Effect<ReadonlyArray<Finding>, StoreError> =>
  Effect.gen(function* () {
    const refuses = yield* Effect.scoped(refusesSettings(url))
    const seen = yield* Effect.scoped(serversSeen(url)).pipe(Effect.timeoutOption("8 seconds"))
    if (seen._tag === "None")
      return [unchecked("database.pooler", "pooler", "no second connection within 8 s: is a pool exhausted?")]
    if (!seen.value)
      return refuses
        ? [
            warning(
              "database.pooler",
              "pooler",
              "in session mode, and it refuses the relay's session settings: the relay goes without them and without prepared statements",
              REMEDY,
            ),
          ]
        : [ok("database.pooler", "pooler", "none that changes connections between transactions")]
    const works = refuses
      ? "the relay works without prepared statements and session settings"
      : "it lets the relay's session settings pass without effect beyond a transaction"
    return [
      listen
        ? problem(
            "database.pooler",
            "pooler",
            `in transaction mode (PgBouncer): LISTEN is deaf through it, so OUTBOX_LISTEN does nothing; ${works}`,
            `set OUTBOX_LISTEN=off, or ${REMEDY}`,
          )
        : warning(
            "database.pooler",
            "pooler",
            `in transaction mode (PgBouncer): ${works}; LISTEN would be deaf, advisory locks and SET last a transaction`,
            REMEDY,
          ),
    ]
  })

/** PgBouncer refuses startup parameters that it does not know. */
const refusesSettings = (url: Redacted.Redacted<string>): Effect.Effect<boolean, StoreError, Scope.Scope> =>
  connect({ url, connections: 1, prepare: false, settings: { enable_seqscan: "off" } }).pipe(
    Effect.as(false),
    Effect.catch((error) =>
      /unsupported startup parameter/.test(error.message) ? Effect.succeed(true) : Effect.fail(error),
    ),
  )

/** Whether the server connections give a pooler away. */
const serversSeen = (url: Redacted.Redacted<string>): Effect.Effect<boolean, StoreError, Scope.Scope> =>
  Effect.gen(function* () {
    const [one, two] = [
      yield* connect({ url, connections: 1, prepare: false }),
      yield* connect({ url, connections: 1, prepare: false }),
    ]
    return yield* Effect.promise(async () => {
      const seen = [new Set<number>(), new Set<number>()] as const
      for (let round = 0; round < ROUNDS; round++)
        for (const [index, sql] of [one, two].entries()) {
          const [row] = await sql<[{ pid: number }]>`SELECT pg_backend_pid() AS pid`
          seen[index]?.add(row.pid)
        }
      return seen[0].size > 1 || seen[1].size > 1 || [...seen[0]].some((pid) => seen[1].has(pid))
    })
  })
