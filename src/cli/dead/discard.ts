/** `drizzle-outbox dead discard` */
import { defineCommand } from "../command.ts"
import { sweep, sweepOptions } from "./sweep.ts"

export const discardCommand = defineCommand({
  name: "dead discard",
  summary: "Deletes dead messages for good.",
  details:
    "Of the inbox, their ids stay until its retention forgets them, so that a late repeat has no effect. In batches of 1,000, the earliest death first; what is done stays done when it is stopped.",
  settings: ["databaseUrl", "schema"],
  options: sweepOptions,
  run: (config, options) => sweep({ name: "discard", done: "discarded" }, config, options),
})
