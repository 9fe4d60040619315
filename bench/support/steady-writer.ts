/** A service that carries out one statement, its own transaction, at a steady rate. */
import postgres from "postgres"
import { now, openLoop, poisson } from "./clock.ts"
import { serve } from "./program.ts"

export interface SteadyWriterConfig {
  readonly database: string
  /** Its one parameter is the number of the call. */
  readonly statement: string
  readonly connections: number
}

export interface Steady {
  readonly perSecond: number
  readonly seconds: number
}

export interface Wrote {
  readonly written: number
  /** From the first moment to the last commit. */
  readonly seconds: number
}

serve(async ({ database, statement, connections }: SteadyWriterConfig) => {
  const sql = postgres(database, {
    max: connections,
    onnotice: () => {},
    connection: { application_name: "bench" },
  })
  await Promise.all(Array.from({ length: connections }, () => sql`SELECT pg_sleep(0.05)`))
  let calls = 0
  const answer = async ({ perSecond, seconds }: Steady): Promise<Wrote> => {
    const moments = poisson(perSecond, seconds)
    const began = now()
    await openLoop(moments, async () => {
      await sql.unsafe(statement, [++calls], { prepare: true })
    })
    return { written: moments.length, seconds: (now() - began) / 1000 }
  }
  return { answer }
})
