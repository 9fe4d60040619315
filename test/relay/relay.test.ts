import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Layer } from "effect"
import type { Outgoing } from "../../src/broker/broker.ts"
import { layerMemory, MemoryBroker } from "../../src/broker/memory.ts"
import { createDatabase } from "../support/postgres.ts"
import { eventually, relayLayer, startRelay, writeMessages } from "../support/relay.ts"

const database = Effect.acquireRelease(
  Effect.promise(() => createDatabase()),
  (database) => Effect.promise(() => database.drop()),
)

/** A memory broker that outlives the relays that use it. */
const broker = Effect.map(Layer.build(layerMemory()), (context) => ({
  faults: Context.get(context, MemoryBroker),
  layer: Layer.succeedContext(context),
}))

const keyOf = (message: Outgoing) => message.headers["outbox-key"]

/** Positions of first arrivals per key, in the order of arrival. */
const arrivals = (accepted: ReadonlyArray<Outgoing>) => {
  const seen = new Set<string>()
  const byKey = new Map<string, number[]>()
  for (const message of accepted) {
    if (seen.has(message.id)) continue
    seen.add(message.id)
    const key = `${message.destination} ${keyOf(message)}`
    byKey.set(key, [...(byKey.get(key) ?? []), Number(message.headers["outbox-position"])])
  }
  return { ids: seen, byKey }
}

const assertOrdered = (accepted: ReadonlyArray<Outgoing>) => {
  for (const [key, positions] of arrivals(accepted).byKey)
    assert.deepStrictEqual(positions, positions.toSorted((a, b) => a - b), `order of ${key}`)
}

describe("relay", () => {
  it.live("publishes what is pending, in order per key, and records it", () =>
    Effect.gen(function* () {
      const { url, sql } = yield* database
      const { faults, layer } = yield* broker
      yield* Effect.promise(() => writeMessages(sql, { count: 5000, keys: 50 }))
      yield* startRelay(relayLayer(url, layer))
      yield* Effect.promise(() =>
        eventually(async () => {
          const [row] = await sql`SELECT count(*)::int AS n FROM outbox.messages WHERE published_at IS NOT NULL`
          assert.strictEqual(row?.["n"], 5000)
        }),
      )
      assert.strictEqual(faults.accepted.length, 5000)
      assertOrdered(faults.accepted)
    }),
  )
})
