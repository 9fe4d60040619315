/** A subscriber behind a network that swallows everything: when it knows, and when another one is handed its messages. */
import { randomUUID } from "node:crypto"
import { Effect } from "effect"
import { afterEach, describe, expect, it } from "vitest"
import type { Subscription } from "../../src/broker/broker.ts"
import { layerStomp } from "../../src/broker/stomp/stomp.ts"
import { startProxy } from "../support/proxy.ts"
import { connector, eventually, outgoing, settled } from "./broker.ts"

export interface LingerSuiteOptions {
  readonly url: () => string
  /** Milliseconds. */
  readonly heartbeats: ReadonlyArray<number>
  /** What both subscribe to, prepared; default a queue of its own. */
  readonly subscription?: () => Promise<Subscription>
}

export const lingerSuite = (name: string, options: LingerSuiteOptions): void => {
  describe(`A black hole before ${name}`, () => {
    const closes: Array<() => Promise<void>> = []
    afterEach(async () => {
      for (const close of closes.splice(0)) await close()
    })

    it.for(options.heartbeats)("heart-beat %i ms", { timeout: 120_000 }, async (heartbeat) => {
      const url = new URL(options.url())
      const proxy = await startProxy(Number(url.port))
      const direct = connector(layerStomp({ url: options.url(), heartbeat }))
      const through = connector(
        layerStomp({ url: options.url().replace(url.host, `127.0.0.1:${proxy.port}`), heartbeat }),
      )
      closes.push(through.closeAll, direct.closeAll, proxy.close)
      const destination = `/queue/linger-${randomUUID()}`
      const subscription: Subscription = {
        destination,
        prefetch: 5,
        exclusive: true,
        ...(await options.subscription?.()),
      }
      const first = await through.open(subscription)
      const held = await first.subscribe(subscription)
      const second = await direct.open(subscription)
      const batch = Array.from({ length: 5 }, (_, n) =>
        outgoing({ destination: subscription.destination, body: String(n) }),
      )
      await settled((await direct.open()).connection, batch)
      await eventually(() => expect(held.received).toHaveLength(5))
      const next = await second.subscribe(subscription)
      // For as long as several beats it lives on them alone.
      await new Promise((resolve) => setTimeout(resolve, Math.max(2500, 2.5 * heartbeat)))
      expect(next.received).toHaveLength(0)

      proxy.swallow()
      const swallowed = performance.now()
      const knew = Effect.runPromise(first.connection.ended).then((end) => {
        expect(end.reason).toBe("outage")
        return performance.now() - swallowed
      })
      const { lingerMillis } = second.connection
      await eventually(() => expect(next.received).toHaveLength(5), lingerMillis + 2000)
      const passed = performance.now() - swallowed
      console.info(
        `${name}, heart-beat ${heartbeat} ms: handed over after ${Math.round(passed)} ms, bound ${lingerMillis} ms, known after ${Math.round(await knew)} ms`,
      )
      expect(passed).toBeLessThan(lingerMillis)
      // Of short ones a second is the least that a broker counts.
      if (heartbeat >= 1000) expect(lingerMillis).toBeLessThanOrEqual(2 * heartbeat + 2000)
      expect(next.received.map(({ body }) => Buffer.from(body).toString())).toEqual(["0", "1", "2", "3", "4"])
      expect(next.received.every(({ redelivered }) => redelivered)).toBe(true)
      // The last byte came up to a beat before, of which there are two at least in this time.
      const silence = Math.max(heartbeat, 2000)
      expect(await knew).toBeLessThan(silence + 200)
      expect(await knew).toBeGreaterThan(silence / 2 - 100)
    })
  })
}
