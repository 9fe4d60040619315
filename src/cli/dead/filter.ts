/** Which dead messages a `dead` command means. */
import type { DeadFilter } from "../../store/operate.ts"
import type { OptionValues } from "../command.ts"
import { messageIds, text } from "../kind.ts"

/** The flags of every `dead` command over several messages. */
export const filterOptions = {
  id: { kind: messageIds, help: "These messages." },
  destination: { kind: text("NAME", "a destination"), help: "With this destination, as a whole." },
  event: { kind: text("NAME", "an event"), help: "Of this event." },
  key: { kind: text("KEY", "a key"), help: "With this key." },
  error: {
    kind: text("WORDS", "words"),
    help: "Whose last error contains these words, upper and lower case alike.",
  },
} as const

/** The filter that the flags ask for. */
export const filterOf = (options: OptionValues<typeof filterOptions>): DeadFilter => ({
  ids: options.id,
  destination: options.destination,
  event: options.event,
  key: options.key,
  error: options.error,
})

/** Whether it lets every dead message through. */
export const isEverything = (filter: DeadFilter): boolean =>
  Object.values(filter).every((part) => part === undefined)
