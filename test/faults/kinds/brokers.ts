/** Brokers that end, forget, block, or refuse. */
import { sleep, until } from "../clock.ts"
import type { Fault } from "../fault.ts"
import { framesOf, type Lab, recovery, whenInFlight } from "../lab.ts"
import { LARGEST_BODY } from "../servers.ts"

const both = ["RabbitMQ", "ActiveMQ"] as const

export const brokerRestart: Fault = {
  name: "broker-restart",
  title: "broker restart, every other a kill",
  brokers: both,
  recovery: 2,
  inject: async (lab, turn) => {
    const inFlight = await whenInFlight(framesOf(lab))
    await lab.broker.restart(turn % 2 === 1)
    return { inFlight, recovered: recovery(lab) }
  },
}

/** What it had confirmed and nobody had read is gone with it: that was the broker's. */
export const brokerWiped: Fault = {
  name: "broker-wiped",
  title: "broker loses its data",
  brokers: both,
  recovery: 2,
  queueOnly: true,
  inject: async (lab) => {
    const inFlight = await whenInFlight(framesOf(lab))
    await lab.broker.wipe()
    const recovered = recovery(lab)
    const gone = await lab.sql<{ ref: string }[]>`
      SELECT o.ref FROM outbox.messages m JOIN orders o ON o.id = (m.body::json->>'id')::bigint
      WHERE m.published_at IS NOT NULL AND NOT EXISTS (SELECT 1 FROM effects e WHERE e.message_id = m.id::text)`
    for (const { ref } of gone) lab.excused.add(ref)
    return { inFlight, recovered }
  },
}

export const alarm: Fault = {
  name: "memory-alarm",
  title: "memory alarm: the broker reads nothing from its senders",
  brokers: ["RabbitMQ"],
  recovery: 2,
  inject: async (lab) => {
    const inFlight = await whenInFlight(framesOf(lab))
    await lab.broker.block(true)
    await sleep(lab.dice.next() * 2000)
    await lab.broker.block(false)
    return { inFlight, recovered: recovery(lab) }
  },
}

export const poison: Fault = {
  name: "poison",
  title: "a message that the broker never takes",
  brokers: both,
  recovery: 2,
  inject: async (lab, turn) => {
    const inFlight = await whenInFlight(framesOf(lab))
    const recovered = recovery(lab)
    const [row] = await lab.sql`
      SELECT outbox.emit('poison', ${lab.destination}, ${JSON.stringify("x".repeat(LARGEST_BODY + 1000))}, ${`poison-${turn}`}) AS id`
    const dead = await until(async () => {
      const [found] = await lab.sql`
        SELECT last_error FROM outbox.messages WHERE id = ${row?.["id"]}::uuid AND dead_at IS NOT NULL`
      return found
    }, 15)
    if (dead === undefined) throw new Error("a body over the broker's limit was not dead after 15 s")
    if (!dead["last_error"]) throw new Error("a dead message bears no words")
    return { inFlight, recovered }
  },
  judge: async ({ sql }) => {
    const [row] = await sql`
      SELECT count(*) FILTER (WHERE event <> 'poison')::int AS others, max(attempts) AS attempts
      FROM outbox.messages WHERE dead_at IS NOT NULL`
    return row?.["others"] === 0 ? [] : [`${row?.["others"]} messages died beside the poison`]
  },
}

/** Messages for an exchange that comes and goes. */
export const refused: Fault = {
  name: "refused-destination",
  title: "a refused destination among good ones",
  brokers: ["RabbitMQ"],
  recovery: 2,
  inject: async (lab, turn) => {
    await exchange(lab, "DELETE")
    await lab.sql`
      SELECT outbox.emit('late', ${lateDestination(lab)}, '{}', 'late-' || n) FROM generate_series(1, 20) n`
    const inFlight = await whenInFlight(framesOf(lab))
    await sleep(1000)
    const recovered = recovery(lab)
    // Others flow while it is missing.
    if (turn % 2 === 1) await exchange(lab, "PUT")
    return { inFlight, recovered }
  },
  mend: (lab) => exchange(lab, "PUT"),
  judge: async ({ sql }) => {
    const [row] = await sql`
      SELECT count(*) FILTER (WHERE published_at IS NULL)::int AS pending FROM outbox.messages WHERE event = 'late'`
    return row?.["pending"] === 0 ? [] : [`${row?.["pending"]} messages did not go to the mended exchange`]
  },
}

const lateName = ({ destination }: Lab) => `late-${destination.replace(/\W/g, "")}`
const lateDestination = (lab: Lab) => `/exchange/${lateName(lab)}/x`

const exchange = async (lab: Lab, method: "PUT" | "DELETE"): Promise<void> => {
  const { origin } = new URL(lab.broker.managementUrl ?? "")
  const answer = await fetch(`${origin}/api/exchanges/%2F/${lateName(lab)}`, {
    method,
    headers: { authorization: `Basic ${btoa("guest:guest")}`, "content-type": "application/json" },
    ...(method === "PUT" && { body: JSON.stringify({ type: "topic", durable: true }) }),
  })
  if (!answer.ok && answer.status !== 404) throw new Error(`${method} of an exchange: ${answer.status}`)
}
