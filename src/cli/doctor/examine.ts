/** All that the doctor looks at. */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { type Config, DATABASE_SETTINGS, MANAGEMENT_SETTINGS, required } from "../../config.ts"
import { brokerUrlsOf } from "../broker.ts"
import { checkBroker } from "./broker-checks.ts"
import { checkDatabase } from "./database.ts"
import type { Finding } from "./finding.ts"
import type { Part } from "./privilege-checks.ts"
import { checkTopology } from "./topology.ts"

export const DOCTOR_SETTINGS = [...DATABASE_SETTINGS, ...MANAGEMENT_SETTINGS, "listen"] as const

export interface ExamineOptions {
  /** Destinations that must lead somewhere, besides those of the outbox's messages. */
  readonly destination?: ReadonlyArray<string> | undefined
  /** What the database role is meant to be. */
  readonly as?: Part | undefined
  /** From which age on a transaction is told. */
  readonly longTransaction: Duration.Duration
}

/** Everything that was found. Throws a `CliError` where no database or no broker is named. */
export const examine = (
  config: Config<(typeof DOCTOR_SETTINGS)[number]>,
  { destination = [], as, longTransaction }: ExamineOptions,
): Effect.Effect<ReadonlyArray<Finding>> =>
  Effect.gen(function* () {
    required("databaseUrl", config)
    brokerUrlsOf(config)
    const [database, broker] = yield* Effect.all(
      [checkDatabase(config, { longTransaction, part: as }), checkBroker(config)],
      { concurrency: "unbounded" },
    )
    const destinations = [...new Set([...database.destinations, ...destination])].sort()
    const topology = yield* checkTopology(config, broker.profile, destinations)
    return [...database.findings, ...broker.findings, ...topology]
  })
