/** How the size of a body counts: each against a bare stompjs publisher of the same frames. */
import { layerStomp } from "drizzle-outbox/stomp"
import { startRabbit } from "../test/support/rabbitmq.ts"
import { publishBare } from "./support/bare-publisher.ts"
import { compare } from "./support/compare.ts"
import { drain, fastestWindow, figuresOf, framesOf, noCosts, refill } from "./support/draining.ts"
import { type Question, worstCase } from "./support/question.ts"
import { brokerVersion, startDatabase } from "./support/servers.ts"

/** Bytes of a body, and messages of a repeat. */
const SIZES = [
  { name: "200 B", bodyBytes: 200, count: 30_000 },
  { name: "1 KB", bodyBytes: 1_000, count: 20_000 },
  { name: "10 KB", bodyBytes: 10_000, count: 5_000 },
  { name: "100 KB", bodyBytes: 100_000, count: 1_000 },
] as const

/** A topic that nobody is bound to: the broker confirms and keeps nothing, so that no disk decides. */
const destination = "/topic/bench"

export const question: Question = {
  asks: "How does the size of a body count?",
  minutes: 15,
  headline: worstCase,
  run: async (lab) => {
    const [database, rabbit] = await Promise.all([startDatabase(), startRabbit()])
    try {
      const broker = await brokerVersion(rabbit.stompUrl)
      for (const { name, bodyBytes, count: full } of SIZES)
        await lab.measure(name, async () => {
          const count = lab.once ? 100 : full
          const backlog = { count, destination, bodyBytes }
          const frames = await framesOf(database, backlog, "amqp-message-id")
          const costs = noCosts()
          const bare = (window: number) => publishBare(rabbit.stompUrl, frames, window)
          const ours = async () => {
            await refill(database, backlog)
            return drain(database, layerStomp({ url: rabbit.stompUrl }), count, costs)
          }
          const window = await fastestWindow(lab, name, bare)
          const measured = await compare(lab, { label: name }, ours, () => bare(window))
          return {
            ...measured,
            figures: {
              ...figuresOf(costs),
              "MB of bodies a second": Math.round((measured.rate ?? 0) * bodyBytes) / 1e6,
            },
            settings: {
              ...database.settings,
              broker,
              messages: count,
              bodyBytes: frames[0]!.body.length,
              relayWindow: 1000,
              relayWindowBytes: 16 * 1024 * 1024,
              baselineWindow: window,
            },
          }
        })
    } finally {
      await database.remove()
      await rabbit.remove()
    }
  },
}
