import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { makeStatements } from "../../src/store/statements.ts"
import { createDatabase } from "../support/postgres.ts"
import { writeMessages } from "../support/relay.ts"

describe("verdicts", () => {
  it.live("words cut within a surrogate pair can be recorded", () =>
    Effect.promise(async () => {
      const database = await createDatabase()
      try {
        const s = makeStatements(database.sql, "outbox")
        await writeMessages(database.sql, { count: 1, key: "k" })
        const relay = "00000000-0000-4000-8000-00000000000a"
        const share = await s.tick({
          relay,
          name: "a",
          leaseMillis: 60000,
          renew: true,
          floor: 0,
          state: "{}",
        })
        const [row] = await database.sql`SELECT position, lane FROM outbox.messages`
        const words = "Unknown destination: 😀".slice(0, -1)
        const done = await s.judge([
          {
            position: Number(row!["position"]),
            lane: row!["lane"],
            token: share.lanes.get(row!["lane"])!,
            words,
            attempts: 1,
            fate: "pending",
          },
        ])
        assert.strictEqual(done.size, 1)
      } finally {
        await database.drop()
      }
    }),
  )
})
