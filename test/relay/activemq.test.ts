/** A relay before a real ActiveMQ Classic. */
import { randomUUID } from "node:crypto"
import { it } from "@effect/vitest"
import { Effect } from "effect"
import { afterAll, beforeAll, expect } from "vitest"
import type { Subscription } from "../../src/broker/broker.ts"
import { layerStomp } from "../../src/broker/stomp/stomp.ts"
import { connector } from "../suites/broker.ts"
import { type ActiveMq, startActiveMq } from "../support/activemq.ts"
import { assertInOrder, firstArrivals } from "../support/arrivals.ts"
import { createDatabase } from "../support/postgres.ts"
import { eventually, relayLayer, startRelay, writeMessages } from "../support/relay.ts"

let broker: ActiveMq
beforeAll(async () => {
  broker = await startActiveMq()
}, 120_000)
afterAll(() => broker?.remove())

const KEYS = 50
const COUNT = 3000

it.live(
  "drains to queue, durable subscription and virtual topic, through a crash of the broker, and all of it outlives the broker",
  () =>
    Effect.gen(function* () {
      const { url, sql } = yield* Effect.acquireRelease(
        Effect.promise(() => createDatabase()),
        (database) => Effect.promise(() => database.drop()),
      )
      const run = randomUUID()
      const subscriptions: ReadonlyArray<Subscription> = [
        { destination: `/queue/orders-${run}` },
        { destination: `/topic/orders-${run}`, queue: `billing.${run}` },
        { destination: `/topic/VirtualTopic.orders-${run}`, queue: `billing.${run}` },
      ]
      const connections = connector(layerStomp({ url: broker.stompUrl }))
      yield* Effect.addFinalizer(() => Effect.promise(connections.closeAll))
      const listen = async (subscription: Subscription) => {
        const opened = await connections.open(subscription)
        return {
          ...opened,
          ...(await opened.subscribe(subscription, (message) => message.ack())),
          end: opened.close,
        }
      }
      const published = async () => {
        const [row] = await sql`SELECT count(*)::int AS n FROM outbox.messages WHERE published_at IS NOT NULL`
        return Number(row?.["n"])
      }

      // They listen once, so that the broker keeps what comes.
      for (const subscription of subscriptions)
        yield* Effect.promise(async () => (await listen(subscription)).end())
      yield* Effect.promise(async () => {
        for (const { destination } of subscriptions)
          await writeMessages(sql, { count: COUNT, keys: KEYS, destination })
      })
      // A queue that never had a message is on disk only after a while: a crash before that forgets it.
      yield* Effect.promise(() => broker.stop().then(broker.start))
      const relay = yield* startRelay(
        relayLayer(url, layerStomp({ url: broker.stompUrl, heartbeat: "1 second" })),
      )
      yield* Effect.promise(async () => {
        await eventually(async () => expect(await published()).toBeGreaterThan(200), 30)
        await broker.kill()
        await broker.start()
        await eventually(async () => expect(await published()).toBe(3 * COUNT), 60)
      })
      yield* relay.stop
      yield* Effect.promise(async () => {
        await broker.stop()
        await broker.start()
        for (const subscription of subscriptions) {
          const { received, end } = await listen(subscription)
          await eventually(() => expect(firstArrivals(received).ids.size).toBe(COUNT), 30)
          assertInOrder(received)
          expect(received.every(({ headers }) => headers["persistent"] === "true")).toBe(true)
          await end()
        }
      })
    }),
  120_000,
)
