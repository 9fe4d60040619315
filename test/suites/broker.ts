/** What every broker layer must do. A layer passes it unchanged, or names in `features` what it cannot. */
import { randomUUID } from "node:crypto"
import { Effect, Exit, type Layer, Scope } from "effect"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import {
  Broker,
  type BrokerConnection,
  type BrokerError,
  type Incoming,
  type Outgoing,
  type Settlement,
  type Subscription,
} from "../../src/broker/broker.ts"

export interface BrokerSuiteOptions {
  /** Asked for once, before the first test. */
  readonly layer: () => Layer.Layer<Broker, BrokerError>
  readonly features: {
    /** Makes the broker refuse, and a destination or message that it then refuses. */
    readonly refusals: ReadonlyArray<{
      readonly scope: "message" | "destination" | "attempt"
      /** Refused as it is, while `/queue/…` is not. */
      readonly message: Partial<Outgoing>
      readonly words: RegExp
      /** The connection ends over it. */
      readonly closes: boolean
      /** It ends in a reset, which may destroy the words on their way: then any of a few connections must bring them. */
      readonly resets?: boolean
    }>
    /** False where a connection that ends over a message says nothing before: then the message is lost with the others. */
    readonly namesBeforeClosing: boolean
    /** Named queues that keep what arrives while nobody listens. */
    readonly namedQueues: boolean
    /** False where a nack does anything but give a message back. */
    readonly nackRequeues: boolean
    /** False where the broker deletes a named queue while somebody is subscribed. */
    readonly forgetLooks: boolean
  }
}

interface Open {
  readonly connection: BrokerConnection
  readonly close: () => Promise<void>
  readonly subscribe: (
    subscription: Subscription,
    deliver?: (message: Incoming) => void,
  ) => Promise<{ readonly received: Array<Incoming>; readonly close: () => Promise<void> }>
}

export const outgoing = (fields: Partial<Outgoing> = {}): Outgoing => ({
  id: randomUUID(),
  destination: "/queue/unset",
  headers: {},
  contentType: "text/plain",
  body: "",
  ...fields,
})

/** Sends and resolves with every settlement, in the batch's order; rejects when one comes twice or within `send`. */
export const settled = (connection: BrokerConnection, batch: ReadonlyArray<Outgoing>) =>
  new Promise<Array<Settlement>>((resolve, reject) => {
    const settlements: Array<Settlement> = []
    let count = 0
    let returned = false
    connection.send(batch, (index, settlement) => {
      if (!returned) reject(new Error("settled within send"))
      if (settlements[index] !== undefined) reject(new Error(`message ${index} settled twice`))
      settlements[index] = settlement
      // One turn more, in which a second settlement would show.
      if (++count === batch.length) setTimeout(resolve, 20, settlements)
    })
    returned = true
  })

export const eventually = async (
  assertion: () => void | Promise<void>,
  milliseconds = 10_000,
): Promise<void> => {
  const deadline = Date.now() + milliseconds
  for (;;) {
    try {
      return await assertion()
    } catch (error) {
      if (Date.now() > deadline) throw error
      await new Promise((resolve) => setTimeout(resolve, 10))
    }
  }
}

/** Opens connections of a layer outside Effect; all are closed by `closeAll`. */
export const connector = (layer: Layer.Layer<Broker, BrokerError>) => {
  const closes = new Set<() => Promise<void>>()
  const open = async (subscription?: Subscription): Promise<Open> => {
    const scope = Scope.makeUnsafe()
    const run = <A, E>(effect: Effect.Effect<A, E, Scope.Scope>, within: Scope.Closeable) =>
      Effect.runPromise(Scope.provide(effect, within))
    const close = async () => {
      closes.delete(close)
      await Effect.runPromise(Scope.close(scope, Exit.void))
    }
    closes.add(close)
    const connection = await run(
      Broker.use((broker) => broker.connect(subscription)).pipe(Effect.provide(layer)),
      scope,
    )
    return {
      connection,
      close,
      subscribe: async (subscription, deliver) => {
        const received: Array<Incoming> = []
        const inner = Scope.makeUnsafe()
        await run(
          connection.subscribe(subscription, (message) => {
            received.push(message)
            deliver?.(message)
          }),
          inner,
        )
        return { received, close: () => Effect.runPromise(Scope.close(inner, Exit.void)) }
      },
    }
  }
  return {
    open,
    closeAll: async () => {
      await Promise.all([...closes].map((close) => close()))
    },
  }
}

const text = ({ body }: Incoming) => Buffer.from(body).toString()
const all = (count: number, settlement: Settlement) => Array.from({ length: count }, () => settlement)
const confirmed: Settlement = { _tag: "Confirmed" }
const lost: Settlement = { _tag: "Lost" }

export const brokerSuite = (name: string, options: BrokerSuiteOptions): void => {
  describe(`Broker: ${name}`, () => {
    let connections: ReturnType<typeof connector>
    beforeAll(() => {
      connections = connector(options.layer())
    })
    afterAll(() => connections?.closeAll())
    const open = (subscription?: Subscription) => connections.open(subscription)
    const queue = () => `/queue/suite-${randomUUID()}`

    describe("send", () => {
      it.each([1, 2, 100, 3000])("settles each of %i messages once, and keeps their order", async (count) => {
        const { connection, close, subscribe } = await open()
        const destination = queue()
        const batch = Array.from({ length: count }, (_, n) => outgoing({ destination, body: String(n) }))
        expect(await settled(connection, batch)).toEqual(all(count, confirmed))
        const { received } = await subscribe({ destination, prefetch: 500 }, (message) => message.ack())
        await eventually(() => expect(received).toHaveLength(count))
        expect(received.map(text)).toEqual(batch.map(({ body }) => body))
        await close()
      })

      it("keeps order per destination over many batches", async () => {
        const { connection, close, subscribe } = await open()
        const destinations = [queue(), queue(), queue()]
        const outcomes = await Promise.all(
          Array.from({ length: 50 }, (_, batch) =>
            settled(
              connection,
              Array.from({ length: 12 }, (_, n) =>
                outgoing({ destination: destinations[n % 3] as string, body: `${batch}.${n}` }),
              ),
            ),
          ),
        )
        expect(outcomes.flat()).toEqual(all(600, confirmed))
        for (const [at, destination] of destinations.entries()) {
          const { received } = await subscribe({ destination }, (message) => message.ack())
          await eventually(() => expect(received).toHaveLength(200))
          const sent = Array.from({ length: 50 }, (_, batch) =>
            Array.from({ length: 12 }, (_, n) => n)
              .filter((n) => n % 3 === at)
              .map((n) => `${batch}.${n}`),
          )
          expect(received.map(text)).toEqual(sent.flat())
        }
        await close()
      })

      it("an empty batch settles nothing", async () => {
        const { connection, close } = await open()
        connection.send([], () => expect.unreachable())
        await close()
      })
    })

    describe("bodies and headers", () => {
      const bodies: Record<string, string | Uint8Array> = {
        empty: "",
        "no bytes": new Uint8Array(0),
        "every byte": Uint8Array.from({ length: 256 }, (_, n) => n),
        "ends in NUL": Uint8Array.from([97, 0, 0]),
        "text with NUL": "a\0b\0",
        "line ends": "\r\n\n\r",
        unicode: "žluťoučký kůň 🐎 漢字 \u2028",
        "a frame in a body": "x\0SEND\ndestination:/queue/injected\n\nboo\0",
        "1 MiB of text": "é".repeat(512 * 1024),
        "1 MiB of bytes": Uint8Array.from({ length: 1 << 20 }, (_, n) => (n * 31) % 256),
      }
      it("arrive byte for byte", async () => {
        const { connection, close, subscribe } = await open()
        const destination = queue()
        const batch = Object.values(bodies).map((body) => outgoing({ destination, body }))
        expect(await settled(connection, batch)).toEqual(all(batch.length, confirmed))
        const { received } = await subscribe({ destination }, (message) => message.ack())
        await eventually(() => expect(received).toHaveLength(batch.length))
        for (const [at, [title, body]] of Object.entries(bodies).entries()) {
          expect(Buffer.from((received[at] as Incoming).body).equals(Buffer.from(body)), title).toBe(true)
        }
        await close()
      })

      it("arrive character for character", async () => {
        const { connection, close, subscribe } = await open()
        const destination = queue()
        const headers: Record<string, string> = {
          colon: "a:b::c",
          backslash: "\\ \\n \\\\c \\r\\c",
          lines: "one\ntwo\r\nthree",
          unicode: "kůň 🐎",
          json: '["a\\nb",1]',
          "na:me\\n": "odd name",
          "content-type-of-mine": "x",
          injected: "x\ndestination:/queue/elsewhere\n\nboo",
        }
        expect(
          await settled(connection, [
            outgoing({ destination, headers, contentType: "application/json; a=b" }),
          ]),
        ).toEqual([confirmed])
        const { received } = await subscribe({ destination }, (message) => message.ack())
        await eventually(() => expect(received).toHaveLength(1))
        const arrived = (received[0] as Incoming).headers
        for (const [header, value] of Object.entries(headers)) expect(arrived[header], header).toBe(value)
        expect(arrived["content-type"]).toBe("application/json; a=b")
        expect((received[0] as Incoming).destination).toBe(destination)
        await close()
      })

      it("no header of a message redirects it or silences its receipt", async () => {
        const { connection, close, subscribe } = await open()
        const destination = queue()
        const headers = { destination: queue(), receipt: "mine", "content-length": "1", persistent: "false" }
        expect(await settled(connection, [outgoing({ destination, headers, body: "whole" })])).toEqual([
          confirmed,
        ])
        const { received } = await subscribe({ destination }, (message) => message.ack())
        await eventually(() => expect(received.map(text)).toEqual(["whole"]))
        await close()
      })
    })

    describe("refusals", () => {
      for (const { scope, message, words, closes, resets } of options.features.refusals) {
        const retry = resets === true ? 5 : 0
        it(`of scope ${scope} (${words.source}) reach the message and nobody else`, { retry }, async () => {
          const { connection, close, subscribe } = await open()
          const [before, after] = [queue(), queue()]
          const batch = [
            outgoing({ destination: before, body: "before" }),
            outgoing({ destination: before, ...message }),
            ...Array.from({ length: 50 }, () => outgoing({ destination: after, body: "after" })),
          ]
          const [first, refused, ...rest] = await settled(connection, batch)
          const named = !closes || options.features.namesBeforeClosing
          expect(refused).toEqual(
            named ? { _tag: "Refused", scope, words: expect.stringMatching(words) } : lost,
          )
          if (closes) {
            expect(["Confirmed", "Lost"]).toContain(first?._tag)
            expect(rest).toEqual(all(50, lost))
            expect((await Effect.runPromise(connection.ended)).reason).toBe("error")
            // Nothing later on the connection was accepted.
            const again = await open()
            const { received } = await again.subscribe({ destination: after }, (each) => each.ack())
            expect(
              await settled(again.connection, [outgoing({ destination: after, body: "probe" })]),
            ).toEqual([confirmed])
            await eventually(() => expect(received.map(text)).toEqual(["probe"]))
            await again.close()
          } else {
            expect([first, ...rest]).toEqual(all(51, confirmed))
            const { received } = await subscribe({ destination: after }, (each) => each.ack())
            await eventually(() => expect(received).toHaveLength(50))
          }
          await close()
        })
      }
    })

    describe("the end", () => {
      it("destroy() settles everything unsettled as lost and sends nothing that waits", async () => {
        const { connection, close } = await open()
        const destination = queue()
        const outcome = settled(
          connection,
          Array.from({ length: 500 }, () => outgoing({ destination, body: "x".repeat(1000) })),
        )
        expect(connection.buffered()).toBeGreaterThanOrEqual(500_000)
        connection.destroy()
        expect(connection.buffered()).toBe(0)
        expect(await outcome).toEqual(all(500, lost))
        expect((await Effect.runPromise(connection.ended)).reason).toBe("closed")
        await close()
        const again = await open()
        expect(await settled(again.connection, [outgoing({ destination, body: "probe" })])).toEqual([
          confirmed,
        ])
        const { received } = await again.subscribe({ destination }, (message) => message.ack())
        await eventually(() => expect(received.map(text)).toEqual(["probe"]))
        await again.close()
      })

      it("after the end every message is lost, and a subscription fails", async () => {
        const { connection, close, subscribe } = await open()
        connection.destroy()
        connection.destroy()
        expect(await settled(connection, [outgoing(), outgoing()])).toEqual([lost, lost])
        await expect(subscribe({ destination: queue() })).rejects.toMatchObject({ reason: "subscription" })
        await close()
      })

      it("closing the scope ends it politely", async () => {
        const { connection, close } = await open()
        const destination = queue()
        expect(await settled(connection, [outgoing({ destination })])).toEqual([confirmed])
        const started = performance.now()
        await close()
        expect(performance.now() - started).toBeLessThan(1500)
        expect((await Effect.runPromise(connection.ended)).reason).toBe("closed")
      })
    })

    describe("subscribe", () => {
      it("fans a topic out to every subscription, and splits a queue", async () => {
        const { connection, close, subscribe } = await open()
        const [topic, shared] = [`/topic/suite-${randomUUID()}`, queue()]
        const subscriptions = await Promise.all(
          [topic, topic, shared, shared].map((destination) =>
            subscribe({ destination, prefetch: 1 }, (message) => message.ack()),
          ),
        )
        const batch = [topic, shared].flatMap((destination) =>
          Array.from({ length: 20 }, (_, n) => outgoing({ destination, body: String(n) })),
        )
        expect(await settled(connection, batch)).toEqual(all(40, confirmed))
        const counts = () =>
          subscriptions.map(({ received }) => received.length) as [number, number, number, number]
        await eventually(() => {
          expect(counts().slice(0, 2)).toEqual([20, 20])
          expect(counts()[2] + counts()[3]).toBe(20)
        })
        expect(Math.min(counts()[2], counts()[3])).toBeGreaterThan(0)
        await close()
      })

      it("hands out no more than prefetch before an ack", async () => {
        const { connection, close, subscribe } = await open()
        const destination = queue()
        const { received } = await subscribe({ destination, prefetch: 3 })
        await settled(
          connection,
          Array.from({ length: 10 }, (_, n) => outgoing({ destination, body: String(n) })),
        )
        await eventually(() => expect(received).toHaveLength(3))
        await new Promise((resolve) => setTimeout(resolve, 100))
        expect(received).toHaveLength(3)
        received[1]?.ack()
        received[1]?.ack()
        await eventually(() => expect(received).toHaveLength(4))
        await new Promise((resolve) => setTimeout(resolve, 100))
        expect(received).toHaveLength(4)
        await close()
      })

      it("delivers again what was not acknowledged, in order, once its connection has ended", async () => {
        const sender = await open()
        const destination = queue()
        const first = await open()
        const { received } = await first.subscribe({ destination, prefetch: 3 })
        await settled(
          sender.connection,
          Array.from({ length: 6 }, (_, n) => outgoing({ destination, body: String(n) })),
        )
        await eventually(() => expect(received).toHaveLength(3))
        received[0]?.ack()
        await eventually(() => expect(received.map(text)).toEqual(["0", "1", "2", "3"]))
        first.connection.destroy()
        // Not exclusive: who comes before the broker has noticed begins with what the first never got.
        await new Promise((resolve) => setTimeout(resolve, 300))
        const second = await open()
        const again = await second.subscribe({ destination, prefetch: 1 })
        await eventually(() => expect(again.received.map(text)).toEqual(["1"]))
        expect(received.map(({ redelivered }) => redelivered)).toEqual([false, false, false, false])
        expect(again.received[0]?.redelivered).toBe(true)
        // Of the ended connection: they settle nothing of this one, and give nothing back twice.
        received[1]?.ack()
        received[2]?.nack()
        await new Promise((resolve) => setTimeout(resolve, 100))
        expect(again.received).toHaveLength(1)
        for (let count = 1; count <= 5; count++) {
          await eventually(() => expect(again.received).toHaveLength(count))
          again.received[count - 1]?.ack()
        }
        await new Promise((resolve) => setTimeout(resolve, 100))
        expect(again.received.map(text)).toEqual(["1", "2", "3", "4", "5"])
        await Promise.all([first.close(), second.close(), sender.close()])
      })

      it.runIf(options.features.nackRequeues)("nack gives a message back", async () => {
        const { connection, close, subscribe } = await open()
        const destination = queue()
        let times = 0
        const { received } = await subscribe({ destination }, (message) => {
          if (++times === 1) message.nack()
          else message.ack()
        })
        await settled(connection, [outgoing({ destination, body: "again" })])
        await eventually(() => expect(received.map(text)).toEqual(["again", "again"]))
        await close()
      })

      it("delivers nothing after its scope has closed", async () => {
        const { connection, close, subscribe } = await open()
        const topic = `/topic/suite-${randomUUID()}`
        const subscription = await subscribe({ destination: topic }, (message) => message.ack())
        await settled(connection, [outgoing({ destination: topic })])
        await eventually(() => expect(subscription.received).toHaveLength(1))
        await subscription.close()
        await settled(connection, [outgoing({ destination: topic })])
        await new Promise((resolve) => setTimeout(resolve, 100))
        expect(subscription.received).toHaveLength(1)
        await close()
      })

      it.runIf(options.features.namedQueues)(
        "a named queue keeps what comes while nobody listens",
        async () => {
          const [destination, name] = [`/topic/suite-${randomUUID()}`, `suite.${randomUUID()}`]
          const subscription = { destination, queue: name }
          const { connection, close, subscribe } = await open(subscription)
          const first = await subscribe(subscription, (message) => message.ack())
          await first.close()
          await settled(connection, [outgoing({ destination, body: "kept" })])
          await close()
          const second = await open(subscription)
          const { received } = await second.subscribe(subscription, (message) => message.ack())
          await eventually(() => expect(received.map(text)).toEqual(["kept"]))
          await second.close()
        },
      )

      it("lets one exclusive subscription work, and the next take over in order", async ({ skip }) => {
        const sender = await open()
        if (!sender.connection.profile.elects) return skip()
        const destination = queue()
        const subscription = { destination, prefetch: 4, exclusive: true }
        const batch = (from: number, to: number) =>
          Array.from({ length: to - from }, (_, n) => outgoing({ destination, body: String(from + n) }))
        const [first, second, third] = [
          await open(subscription),
          await open(subscription),
          await open(subscription),
        ]
        const one = await first.subscribe(subscription)
        const two = await second.subscribe(subscription)
        const three = await third.subscribe(subscription, (message) => message.ack())
        await settled(sender.connection, batch(0, 10))
        await eventually(() => expect(one.received.map(text)).toEqual(["0", "1", "2", "3"]))
        one.received[0]?.ack()
        one.received[2]?.ack()
        await eventually(() => expect(one.received).toHaveLength(6))
        // By its death: what it left unsettled comes first, and in order.
        first.connection.destroy()
        await eventually(() => expect(two.received.map(text)).toEqual(["1", "3", "4", "5"]))
        expect(two.received.map(({ redelivered }) => redelivered)).toEqual([true, true, true, true])
        one.received[1]?.ack()
        await new Promise((resolve) => setTimeout(resolve, 100))
        expect([two.received.length, three.received.length]).toEqual([4, 0])
        two.received[0]?.ack()
        await eventually(() => expect(two.received.map(text).at(-1)).toBe("6"))
        // By a polite end.
        await second.close()
        await settled(sender.connection, batch(10, 15))
        await eventually(() => expect(three.received).toHaveLength(12))
        expect(three.received.map(text)).toEqual(
          Array.from({ length: 15 }, (_, n) => String(n)).filter((n) => n !== "0" && n !== "2" && n !== "1"),
        )
        await Promise.all([first.close(), third.close(), sender.close()])
      })

      it.runIf(options.features.namedQueues)("forgets a named queue when asked, and only then", async () => {
        const [destination, name] = [`/topic/suite-${randomUUID()}`, `suite.${randomUUID()}`]
        const subscription = { destination, queue: name }
        const sender = await open()
        const first = await open(subscription)
        const { received } = await first.subscribe(subscription)
        if (options.features.forgetLooks) {
          await expect(Effect.runPromise(first.connection.forget(subscription))).rejects.toMatchObject({
            reason: "subscription",
          })
        }
        await settled(sender.connection, [outgoing({ destination, body: "kept" })])
        await eventually(() => expect(received.map(text)).toEqual(["kept"]))
        await first.close()
        const second = await open(subscription)
        const again = await second.subscribe(subscription)
        await eventually(() => expect(again.received.map(text)).toEqual(["kept"]))
        await again.close()
        await second.close()
        const third = await open(subscription)
        await Effect.runPromise(third.connection.forget(subscription))
        await third.close()
        const fourth = await open(subscription)
        const anew = await fourth.subscribe(subscription, (message) => message.ack())
        await settled(sender.connection, [outgoing({ destination, body: "new" })])
        await eventually(() => expect(anew.received.map(text)).toEqual(["new"]))
        await fourth.close()
        const fifth = await open(subscription)
        await Effect.runPromise(fifth.connection.forget(subscription))
        await Promise.all([fifth.close(), sender.close()])
      })

      it("does not forget a queue that is a destination of its own", async () => {
        const { connection, close } = await open()
        await expect(Effect.runPromise(connection.forget({ destination: queue() }))).rejects.toMatchObject({
          reason: "subscription",
        })
        await close()
      })
    })
  })
}
