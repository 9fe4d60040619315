/** `drizzle-outbox dead requeue` */
import { defineCommand } from "../command.ts"
import { sweep, sweepOptions } from "./sweep.ts"

export const requeueCommand = defineCommand({
  name: "dead requeue",
  summary: "Makes dead messages due again, under their ids and with all their attempts before them.",
  details:
    "Their keys went on without them, so they arrive late. Of the inbox, they are parked, due now, and their consumer tries them. In batches of 1,000, the earliest death first; what is done stays done when it is stopped.",
  settings: ["databaseUrl", "schema"],
  options: sweepOptions,
  run: (config, options) => sweep({ name: "requeue", done: "requeued" }, config, options),
})
