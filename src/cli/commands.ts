/** Finds the command that a command line names. */
import { readFileSync } from "node:fs"
import type * as Effect from "effect/Effect"
import { type Command, print } from "./command.ts"
import { discardCommand } from "./dead/discard.ts"
import { listCommand } from "./dead/list.ts"
import { requeueCommand } from "./dead/requeue.ts"
import { showCommand } from "./dead/show.ts"
import { doctorCommand } from "./doctor.ts"
import { CliError } from "./failure.ts"
import { programHelp } from "./help.ts"
import { migrateCommand } from "./migrate.ts"
import { relayCommand } from "./relay.ts"
import { statusCommand } from "./status.ts"
import { subscribeCommand } from "./subscribe.ts"
import { closest } from "./suggest.ts"
import { unsubscribeCommand } from "./unsubscribe.ts"

/** Every command, in the order in which `--help` lists them. */
export const commands: ReadonlyArray<Command> = [
  migrateCommand,
  relayCommand,
  subscribeCommand,
  unsubscribeCommand,
  statusCommand,
  doctorCommand,
  listCommand,
  showCommand,
  requeueCommand,
  discardCommand,
]

/** The command, and the arguments that are left for it. */
export const findCommand = (
  argv: ReadonlyArray<string>,
): { readonly command: Command; readonly rest: ReadonlyArray<string> } => {
  const [first = "", second = ""] = argv
  if (first === "--version") return { command: answer(print(version())), rest: [] }
  if (first === "--help" || first === "-h" || first === "help")
    return { command: answer(print(programHelp(commands))), rest: [] }
  for (const command of commands) {
    if (command.name === first) return { command, rest: argv.slice(1) }
    if (command.name === `${first} ${second}`) return { command, rest: argv.slice(2) }
  }
  const group = commands.filter(({ name }) => name.startsWith(`${first} `))
  if (group.length > 0 && (second === "--help" || second === "-h"))
    return { command: answer(print(programHelp(group))), rest: [] }
  return { command: answer(new CliError({ message: complaint(first, second, group) })), rest: [] }
}

const complaint = (first: string, second: string, group: ReadonlyArray<Command>): string => {
  const given = group.length > 0 && second !== "" ? `${first} ${second}` : first
  const near = closest(
    given,
    commands.map(({ name }) => name),
  )
  if (group.length > 0 && (second === "" || near === undefined))
    return `${first} needs one of ${group.map(({ name }) => name.slice(first.length + 1)).join(", ")}; see drizzle-outbox --help`
  if (given === "") return "no command is given; see drizzle-outbox --help"
  // A URL in a command's place may hold a password.
  const shown = given.includes("://") ? "(a URL)" : JSON.stringify(given)
  return `there is no command ${shown}${near === undefined ? "" : ` (did you mean ${near}?)`}; see drizzle-outbox --help`
}

/** What stands for a command where there is none to run. */
const answer = (effect: Effect.Effect<void, CliError>): Command => ({
  name: "",
  summary: "",
  service: false,
  start: () => effect,
})

const version = (): string => {
  const file = new URL("../../package.json", import.meta.url)
  return (JSON.parse(readFileSync(file, "utf8")) as { version: string }).version
}
