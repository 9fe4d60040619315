/** Processes that are killed, stopped, replaced, or have another time. */
import { existsSync } from "node:fs"
import { installPackage } from "../../support/debian.ts"
import { sleep } from "../clock.ts"
import type { Fault, Injection } from "../fault.ts"
import { consumerRecovery, type Lab, recovery, unrecordedAt, whenInFlight } from "../lab.ts"
import { HEARTBEAT, LEASE, type RelayUnit } from "../relays.ts"

const both = ["RabbitMQ", "ActiveMQ"] as const

/** Whose turn it is to suffer. */
const victimOf = ({ relays }: Lab, turn: number): RelayUnit => relays[turn % relays.length] as RelayUnit

/** Milliseconds in which passes what a relay had sent, and is answered, after it was frozen: far less than its lease. */
const ON_THE_WAY = 300

/** Messages that a frozen relay has sent and not recorded. */
const abandoned = async ({ sql }: Lab, { frames }: RelayUnit): Promise<number> => {
  await sleep(ON_THE_WAY)
  const exposed = frames.exposed()
  frames.abandon()
  return unrecordedAt(sql, exposed, new Date())
}

/** Under which ids it holds lanes now. */
const idsOf = async ({ sql }: Lab, { name }: RelayUnit): Promise<ReadonlyArray<string>> => {
  const rows = await sql<{ id: string }[]>`SELECT id FROM outbox.relays WHERE name = ${name}`
  return rows.map(({ id }) => id)
}

const killRelay = async (lab: Lab, turn: number): Promise<Injection> => {
  const victim = victimOf(lab, turn)
  const gone = await idsOf(lab, victim)
  const inFlight = await whenInFlight([victim.frames])
  victim.process().signal("SIGKILL")
  const recovered = recovery(lab, gone)
  victim.start()
  return { inFlight, recovered }
}

export const relayKill: Fault = {
  name: "relay-kill",
  title: "`kill -9` of a relay",
  brokers: both,
  recovery: LEASE + 2,
  inject: killRelay,
}

export const relayTerm: Fault = {
  name: "relay-term",
  title: "SIGTERM of a relay under load",
  brokers: both,
  recovery: 2,
  noRepeats: true,
  inject: async (lab, turn) => {
    const victim = victimOf(lab, turn)
    const inFlight = await whenInFlight([victim.frames])
    const recovered = recovery(lab)
    const code = victim.process().stop("SIGTERM")
    victim.start()
    if ((await code) !== 0) throw new Error(`a relay ended with ${await code} at SIGTERM`)
    return { inFlight, recovered }
  },
}

export const relayFreeze: Fault = {
  name: "relay-freeze",
  title: "SIGSTOP of a relay past its lease, then SIGCONT",
  brokers: both,
  recovery: 2,
  inject: async (lab, turn) => {
    const victim = victimOf(lab, turn)
    const inFlight = await whenInFlight([victim.frames])
    victim.process().signal("SIGSTOP")
    const unrecorded = await abandoned(lab, victim)
    await sleep((LEASE + 0.5 + lab.dice.next()) * 1000)
    victim.process().signal("SIGCONT")
    return { inFlight, recovered: recovery(lab), unrecorded }
  },
}

export const upgrade: Fault = {
  name: "upgrade",
  title: "rolling upgrade: another relay starts, then the old one gets SIGTERM",
  brokers: ["RabbitMQ"],
  recovery: 2,
  noRepeats: true,
  inject: async (lab, turn) => {
    const victim = victimOf(lab, turn)
    const old = victim.start()
    await sleep(1000)
    const inFlight = await whenInFlight([victim.frames])
    const recovered = recovery(lab)
    const code = await old.stop("SIGTERM")
    if (code !== 0) throw new Error(`a relay ended with ${code} at SIGTERM`)
    return { inFlight, recovered }
  },
}

const faketime = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"

export const clock: Fault = {
  name: "clock",
  title: "the clock of one relay is an hour off, and it is killed with -9",
  brokers: ["RabbitMQ"],
  recovery: LEASE + 2,
  prepare: async () => {
    if (existsSync(faketime)) return
    await installPackage("faketime")
    if (!existsSync(faketime))
      throw new Error("no libfaketime: install faketime (Debian, Ubuntu: apt-get install faketime)")
  },
  relayEnv: (relay): Record<string, string> =>
    relay === 0 ? { LD_PRELOAD: faketime, FAKETIME: "+1h", FAKETIME_DONT_FAKE_MONOTONIC: "1" } : {},
  inject: (lab) => killRelay(lab, 0),
  judge: async ({ sql }) => {
    const [row] = await sql`
      SELECT count(*)::int AS n FROM outbox.messages WHERE abs(extract(epoch FROM published_at - created_at)) > 600`
    return row?.["n"] === 0 ? [] : [`${row?.["n"]} messages bear the time of the relay whose clock is off`]
  },
}

export const consumerKill: Fault = {
  name: "consumer-kill",
  title: "`kill -9` of the consumer",
  brokers: both,
  recovery: 2 * HEARTBEAT + 2,
  inject: async ({ consumer }) => {
    const inFlight = await whenInFlight([consumer.frames])
    consumer.process().kill("SIGKILL")
    const recovered = consumerRecovery(consumer)
    consumer.start()
    return { inFlight, recovered }
  },
}
