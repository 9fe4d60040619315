/** The network between relays and broker, or relays and database. */
import { sleep } from "../clock.ts"
import type { Fault } from "../fault.ts"
import { framesOf, type Lab, recovery, whenInFlight } from "../lab.ts"
import { HEARTBEAT, LEASE, type RelayUnit } from "../relays.ts"

const both = ["RabbitMQ", "ActiveMQ"] as const
const each = ({ relays }: Lab, apply: (relay: RelayUnit) => void) => {
  for (const relay of relays) apply(relay)
}

/** Seconds of silence after which both sides have given a connection up. */
const SILENCE = 2.5 * HEARTBEAT + 1

export const blackhole: Fault = {
  name: "blackhole",
  title: "broker stalled: nothing passes either way, nothing closes",
  brokers: both,
  recovery: 2,
  inject: async (lab) => {
    const inFlight = await whenInFlight(framesOf(lab))
    each(lab, ({ broker }) => broker.hold("up", "down"))
    await sleep((SILENCE + lab.dice.next()) * 1000)
    each(lab, ({ broker }) => broker.resume())
    return { inFlight, recovered: recovery(lab) }
  },
}

export const receiptsLost: Fault = {
  name: "receipts-lost",
  title: "what the broker says is lost, what it is sent arrives",
  brokers: both,
  recovery: 2,
  inject: async (lab) => {
    const inFlight = await whenInFlight(framesOf(lab))
    each(lab, ({ broker }) => broker.hold("down"))
    await sleep((1 + lab.dice.next() * SILENCE) * 1000)
    each(lab, ({ broker }) => {
      broker.reset()
      broker.resume()
    })
    return { inFlight, recovered: recovery(lab) }
  },
}

export const reset: Fault = {
  name: "reset",
  title: "connection reset at a random byte",
  brokers: both,
  recovery: 2,
  inject: async (lab, turn) => {
    const { broker, frames } = lab.relays[turn % lab.relays.length] as RelayUnit
    let inFlight = 0
    while (inFlight === 0) {
      await whenInFlight([frames])
      await broker.resetAfter(1 + lab.dice.below(4000), () => {
        inFlight = frames.count()
      })
    }
    return { inFlight, recovered: recovery(lab) }
  },
}

export const slow: Fault = {
  name: "slow-broker",
  title: "slow broker: a few messages a second, a tenth of a second late",
  brokers: both,
  recovery: 2,
  inject: async (lab) => {
    const inFlight = await whenInFlight(framesOf(lab))
    each(lab, ({ broker }) => {
      broker.throttle(20_000)
      broker.delay(100)
    })
    await sleep((1 + 2 * lab.dice.next()) * 1000)
    each(lab, ({ broker }) => {
      broker.throttle(Number.POSITIVE_INFINITY)
      broker.delay(0)
    })
    return { inFlight, recovered: recovery(lab) }
  },
}

export const databaseStalled: Fault = {
  name: "database-stalled",
  title: "one relay's way to the database stalls past its lease",
  brokers: ["RabbitMQ"],
  recovery: 2,
  inject: async (lab, turn) => {
    const { database, frames } = lab.relays[turn % lab.relays.length] as RelayUnit
    const inFlight = await whenInFlight([frames])
    frames.databaseAway()
    database.hold("up", "down")
    await sleep((LEASE + 1 + lab.dice.next()) * 1000)
    database.resume()
    return { inFlight, recovered: recovery(lab) }
  },
}
