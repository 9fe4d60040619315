/** What `status` tells, as people read it. */
import { LANES } from "../store/store.ts"
import { formatMillis } from "./duration.ts"
import type { StatusReport } from "./status-report.ts"
import { clipped, columns, counted } from "./table.ts"

/** The report in lines. */
export const readableReport = (report: StatusReport): string => {
  const number = (value: number) => value.toLocaleString("en")
  const age = report.oldestAgeSeconds === null ? "-" : formatMillis(report.oldestAgeSeconds * 1000)
  const living = report.relays.filter(({ alive }) => alive).length
  const notDue = report.notDue === 0 ? "" : ` (${number(report.notDue)} not due)`
  const lanes =
    report.lanesWithoutRelay === 0
      ? ""
      : ` (${report.lanesWithoutRelay} of ${LANES} lanes are without a relay)`
  return [
    columns([
      ["backlog", `${number(report.backlog)}${notDue}`],
      ["oldest age", age],
      ["dead", number(report.dead)],
      ["held messages", number(report.held)],
      ["held destinations", number(report.heldDestinations.length)],
      ["relays", `${living}${lanes}`],
      ...inboxRows(report),
    ]),
    section("Relays", relayLines(report)),
    section("Held destinations", heldDestinationLines(report)),
    section("Held keys", heldKeyLines(report)),
    section("Consumers", consumerLines(report)),
    section("Instances", instanceLines(report)),
  ]
    .filter((part) => part !== "")
    .join("\n\n")
}

const section = (title: string, rows: ReadonlyArray<ReadonlyArray<string>>): string =>
  rows.length === 0 ? "" : `${title}\n${columns(rows).replace(/^/gm, "  ")}`

const relayLines = ({ relays }: StatusReport) =>
  relays.map((relay) => [
    relay.name,
    `${relay.lanes.length} lanes (${ranges(relay.lanes)})`,
    relay.alive ? `lease ${formatMillis(relay.leaseLeftSeconds * 1000)} left` : "lease over",
    `broker ${[relay.broker?.server, relay.broker?.state ?? "unknown"].filter(Boolean).join(" ")}`,
    `${relay.inFlight.toLocaleString("en")} in flight, ${relay.publishedTotal.toLocaleString("en")} published`,
    relay.broker?.state === "connected" ? "" : clipped(relay.broker?.words ?? "", 120),
  ])

const heldDestinationLines = ({ heldDestinations }: StatusReport) =>
  heldDestinations.map(({ destination, since, words, relay }) => [
    destination,
    `for ${formatMillis(Date.now() - Date.parse(since))}`,
    relay,
    clipped(words, 120),
  ])

const heldKeyLines = ({ held, heldKeys }: StatusReport) => {
  const lines = heldKeys.map(({ destination, key, id, attempts, nextAttemptAt, lastError }) => [
    destination,
    key === null ? "no key" : `key ${JSON.stringify(key)}`,
    id,
    `attempt ${attempts + 1}${nextAttemptAt === null ? " now" : ` in ${formatMillis(Date.parse(nextAttemptAt) - Date.now())}`}`,
    clipped(lastError ?? "", 120),
  ])
  const more = held - heldKeys.length
  return more > 0 ? [...lines, [`… and ${more.toLocaleString("en")} more (--limit)`]] : lines
}

/** Nothing of an inbox that nobody uses. */
const inboxRows = ({ inbox }: StatusReport): ReadonlyArray<ReadonlyArray<string>> =>
  inbox.consumers.length === 0
    ? []
    : [
        ["parked", parkedWords(inbox.parked, inbox.oldestParkedSeconds)],
        ["dead in the inbox", inbox.dead.toLocaleString("en")],
        ["consumers", inbox.consumers.length.toLocaleString("en")],
      ]

const parkedWords = (parked: number, oldestSeconds: number | null): string =>
  `${parked.toLocaleString("en")}${oldestSeconds === null ? "" : ` (the oldest for ${formatMillis(oldestSeconds * 1000)})`}`

const consumerLines = ({ inbox }: StatusReport) =>
  inbox.consumers.map(({ consumer, queue, parked, oldestParkedSeconds, dead, instances }) => {
    const living = instances.filter(({ alive }) => alive).length
    return [
      consumer,
      `queue ${queue}`,
      `${parkedWords(parked, oldestParkedSeconds)} parked`,
      `${dead.toLocaleString("en")} dead`,
      living === 0 ? "no instance" : counted(living, "instance"),
    ]
  })

const instanceLines = ({ inbox }: StatusReport) =>
  inbox.consumers.flatMap(({ consumer, instances }) =>
    instances.map((instance) => {
      const { paused } = instance
      return [
        consumer,
        instance.name,
        instance.alive ? `up ${formatMillis(Date.now() - Date.parse(instance.startedAt))}` : "lease over",
        `${instance.connection}${instance.holds ? ", holds the subscription" : ""}`,
        paused === null
          ? ""
          : `paused for ${formatMillis(Date.now() - Date.parse(paused.since))} (${paused.reason})`,
        `${instance.running.toLocaleString("en")} running, ${instance.handled.toLocaleString("en")} handled`,
        clipped(paused?.words ?? instance.words ?? "", 120),
      ]
    }),
  )

/** "0-31, 40" */
const ranges = (lanes: ReadonlyArray<number>): string => {
  const parts: Array<[number, number]> = []
  for (const lane of lanes) {
    const last = parts.at(-1)
    if (last !== undefined && last[1] === lane - 1) last[1] = lane
    else parts.push([lane, lane])
  }
  return parts.map(([low, high]) => (low === high ? `${low}` : `${low}-${high}`)).join(", ") || "none"
}
