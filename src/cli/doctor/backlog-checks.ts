/** What waits, is held or was given up, as far as somebody should look at it. */
import type { Sql } from "postgres"
import { readParked } from "../../inbox/operate.ts"
import { readBacklog, readRelays } from "../../store/operate.ts"
import { formatMillis } from "../duration.ts"
import { clipped, counted } from "../table.ts"
import { type Finding, ok, problem, warning } from "./finding.ts"

const OLD_MILLIS = 5 * 60_000

export const checkBacklog = async (sql: Sql, schema: string): Promise<ReadonlyArray<Finding>> => {
  const backlog = await readBacklog(sql, schema)
  const relays = (await readRelays(sql, schema)).filter(({ leaseMillis }) => leaseMillis > 0)
  const parked = await readParked(sql, schema)
  const findings: Finding[] = []
  const age = backlog.oldestMillis ?? 0
  const due = backlog.pending - backlog.notDue
  if (relays.length === 0 && due > 0)
    findings.push(
      problem(
        "backlog.no-relay",
        "relays",
        `none is alive to send what is due: ${counted(due, "message")}, the oldest for ${formatMillis(age)}`,
        "start one: drizzle-outbox relay",
      ),
    )
  else if (age > OLD_MILLIS)
    findings.push(
      warning(
        "backlog.old",
        "backlog",
        `${counted(backlog.pending, "message")} pending, the oldest for ${formatMillis(age)}`,
        "drizzle-outbox status says what holds it",
      ),
    )
  for (const { name, state } of relays)
    for (const { destination, words, since } of state.heldDestinations ?? [])
      findings.push(
        warning(
          "backlog.held-destination",
          destination,
          `held by relay ${name} since ${since}: ${clipped(words, 300)}`,
          "mend what the words say: it flows by itself within a back-off step (240 s at most)",
        ),
      )
  if (backlog.dead > 0)
    findings.push(
      warning(
        "backlog.dead",
        "dead messages",
        `${counted(backlog.dead, "message")} in the outbox, kept until somebody decides`,
        "drizzle-outbox dead list, then dead requeue or dead discard",
      ),
    )
  const buried = parked.reduce((sum, { dead }) => sum + dead, 0)
  if (buried > 0)
    findings.push(
      warning(
        "backlog.dead-inbox",
        "dead messages",
        `${counted(buried, "message")} in the inbox, kept until somebody decides`,
        "drizzle-outbox dead list --inbox, then dead requeue or dead discard",
      ),
    )
  return findings.length > 0
    ? findings
    : [ok("backlog", "backlog", `${counted(backlog.pending, "message")} pending, nothing held or dead`)]
}
