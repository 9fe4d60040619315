/** The text of `--help`, from the same tables that are read. */
import { defaultOf, flagOf, type SettingName, settings, variableOf } from "../config.ts"
import type { Option } from "./command.ts"
import { wrap } from "./table.ts"

interface Helped {
  readonly name: string
  readonly summary: string
  readonly details?: string
  readonly settings: ReadonlyArray<SettingName>
  readonly options: Readonly<Record<string, Option>>
  readonly arguments?: ReadonlyArray<string>
}

const WIDTH = 100

/** The help of one command. */
export const helpOf = (command: Helped): string => {
  const places = (command.arguments ?? []).map((name) => ` ${placeOf(command.options[name])}`).join("")
  const parts = [
    `drizzle-outbox ${command.name}${places} [flags]`,
    wrap(command.summary, WIDTH),
    ...(command.details === undefined ? [] : command.details.split("\n").map((line) => wrap(line, WIDTH))),
  ]
  const options = Object.entries(command.options).map(([name, option]) =>
    entry(
      `--${flagOf(name)}${option.kind === undefined ? "" : ` ${option.kind.placeholder}`}`,
      option.help,
      option.default,
    ),
  )
  options.push(entry("--help", "Shows this."))
  parts.push(`Flags:\n${options.join("\n")}`)
  if (command.settings.length > 0)
    parts.push(
      `Settings, as flags or as variables (a flag wins; keep secrets in variables, a command line is visible to others):\n${command.settings
        .map((name) =>
          entry(
            `--${flagOf(name)} ${settings[name].kind.placeholder}`,
            `${variableOf(name)}. ${settings[name].help.replaceAll("`", "")}`,
            defaultOf(name),
          ),
        )
        .join("\n")}`,
    )
  return `${parts.join("\n\n")}\n`
}

/** The help of the program. */
export const programHelp = (
  commands: ReadonlyArray<{ readonly name: string; readonly summary: string }>,
): string => {
  const width = Math.max(...commands.map(({ name }) => name.length)) + 2
  return [
    "drizzle-outbox COMMAND [flags]",
    "The transactional outbox and the idempotent inbox for Drizzle and PostgreSQL.",
    `Commands:\n${commands.map(({ name, summary }) => `  ${name.padEnd(width)}${summary}`).join("\n")}`,
    `drizzle-outbox COMMAND --help shows the flags and settings of a command, drizzle-outbox --version the version.`,
    "",
  ].join("\n\n")
}

const placeOf = (option: Option | undefined): string => {
  const placeholder = option?.kind?.placeholder ?? "ARGUMENT"
  return option?.required ? placeholder : `[${placeholder}]`
}

const entry = (head: string, help: string, value?: string): string => {
  const text = value === undefined ? help : `${help} Default: ${value}.`
  return `  ${head}\n${wrap(text, WIDTH - 6).replace(/^/gm, "      ")}`
}
