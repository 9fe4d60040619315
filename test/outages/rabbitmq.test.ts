/** The STOMP layer on a RabbitMQ that is blocked, stopped and killed. */
import { randomUUID } from "node:crypto"
import { Effect } from "effect"
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest"
import { layerStomp, type StompOptions } from "../../src/broker/stomp/stomp.ts"
import { connector, eventually, outgoing, settled } from "../suites/broker.ts"
import { type Rabbit, startRabbit } from "../support/rabbitmq.ts"

let rabbit: Rabbit
beforeAll(async () => {
  rabbit = await startRabbit()
}, 120_000)
afterAll(() => rabbit?.remove())

const opened: Array<() => Promise<void>> = []
afterEach(async () => {
  for (const close of opened.splice(0)) await close()
})
const open = (options: Partial<StompOptions> = {}) => {
  const { open, closeAll } = connector(layerStomp({ url: rabbit.stompUrl, ...options }))
  opened.push(closeAll)
  return open()
}

describe("a broker in trouble", () => {
  it("gives no receipts under a memory alarm, keeps the connection, and goes on by itself", async () => {
    const { connection } = await open({ heartbeat: "500 millis" })
    const destination = `/queue/alarm-${randomUUID()}`
    await rabbit.ctl("set_vm_memory_high_watermark", "0.0001")
    await settled(connection, [outgoing({ destination })])
    let done = false
    const outcome = settled(
      connection,
      Array.from({ length: 10 }, () => outgoing({ destination })),
    ).finally(() => {
      done = true
    })
    await new Promise((resolve) => setTimeout(resolve, 3000))
    expect(done).toBe(false)
    await rabbit.ctl("set_vm_memory_high_watermark", "0.4")
    expect((await outcome).map(({ _tag }) => _tag)).toEqual(Array.from({ length: 10 }, () => "Confirmed"))
  })

  it.each(["stop", "kill"] as const)("takes %s for an outage, and keeps what it confirmed", async (how) => {
    const { connection } = await open()
    const destination = `/queue/kept-${randomUUID()}`
    await settled(connection, [outgoing({ destination, body: "kept" })])
    // It confirms what goes to a queue that it has declared just now, and a crash can still take the queue: this writes it down.
    await rabbit.ctl("eval", "mnesia:sync_log().")
    await rabbit[how]()
    expect((await Effect.runPromise(connection.ended)).reason).toBe("outage")
    expect(await open().catch((error) => error)).toMatchObject({ reason: "unreachable", isRetryable: true })
    await rabbit.start()
    const { subscribe } = await open()
    const { received } = await subscribe({ destination }, (message) => message.ack())
    await eventually(() => expect(received.map(({ body }) => Buffer.from(body).toString())).toEqual(["kept"]))
  })
})
