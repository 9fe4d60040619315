/** Which dead messages a `dead` command means. */
import type { InboxDeadFilter } from "../../inbox/operate.ts"
import type { OptionValues } from "../command.ts"
import { CliError } from "../failure.ts"
import { isUuid, messageIds, text } from "../kind.ts"

/** The flags of every `dead` command. */
export const placeOptions = {
  inbox: { help: "Of the inbox, given up by a consumer, instead of the outbox, given up by a relay." },
  consumer: { kind: text("NAME", "a consumer's name"), help: "With --inbox: of this consumer." },
} as const

/** The flags of every `dead` command over several messages. */
export const filterOptions = {
  ...placeOptions,
  id: { kind: messageIds, help: "These messages." },
  destination: { kind: text("NAME", "a destination"), help: "With this destination, as a whole." },
  event: { kind: text("NAME", "an event"), help: "Of this event." },
  key: { kind: text("KEY", "a key"), help: "With this key." },
  error: {
    kind: text("WORDS", "words"),
    help: "Whose last error contains these words, upper and lower case alike.",
  },
} as const

type Given = OptionValues<typeof placeOptions> & Partial<OptionValues<typeof filterOptions>>

/** The filter that the flags ask for. Throws a `CliError` for flags that do not go together. */
export const filterOf = (options: Given): InboxDeadFilter => {
  if (options.consumer !== undefined && !options.inbox)
    throw new CliError({ message: "--consumer needs --inbox: a dead message of the outbox has no consumer" })
  const strange = options.inbox ? undefined : options.id?.find((id) => !isUuid(id))
  if (strange !== undefined)
    throw new CliError({
      message: `--id is ${JSON.stringify(strange)}: expected the UUID of a message, several separated by commas`,
    })
  return {
    ids: options.id,
    consumer: options.consumer,
    destination: options.destination,
    event: options.event,
    key: options.key,
    error: options.error,
  }
}

/** Whether it lets every dead message through. */
export const isEverything = (filter: InboxDeadFilter): boolean =>
  Object.values(filter).every((part) => part === undefined)
