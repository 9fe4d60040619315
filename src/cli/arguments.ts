/** Reads a command line. Never repeats what may be a secret. */
import { parseArgs } from "node:util"
import { flagOf, type SettingName, settings } from "../config.ts"
import type { Option } from "./command.ts"
import { CliError } from "./failure.ts"
import { closest } from "./suggest.ts"

interface Accepted {
  readonly name: string
  readonly settings: ReadonlyArray<SettingName>
  readonly options: Readonly<Record<string, Option>>
  readonly arguments?: ReadonlyArray<string>
}

interface Parsed {
  /** By flag, unread. */
  readonly settings: ReadonlyMap<string, string>
  /** By name, read. */
  readonly options: Readonly<Record<string, unknown>>
}

/** Sorts arguments into settings and the command's own options. Throws a `CliError` for what it does not know. */
export const parseArguments = (command: Accepted, argv: ReadonlyArray<string>): Parsed | "help" => {
  const settingFlags = new Set(command.settings.map(flagOf))
  const optionOf = new Map(Object.keys(command.options).map((name) => [flagOf(name), name]))
  const takesValue = (flag: string) =>
    settingFlags.has(flag) || command.options[optionOf.get(flag) ?? ""]?.kind !== undefined
  const known = [...settingFlags, ...optionOf.keys(), "help"]
  const { tokens } = parseArgs({
    args: [...argv],
    strict: false,
    allowPositionals: true,
    tokens: true,
    options: {
      ...Object.fromEntries(
        known.map((flag) => [flag, { type: takesValue(flag) ? ("string" as const) : ("boolean" as const) }]),
      ),
      help: { type: "boolean", short: "h" },
    },
  })
  const fail = (message: string) =>
    new CliError({ message: `${message}; see drizzle-outbox ${command.name} --help` })

  const given = new Map<string, string>()
  const isMany = (flag: string) => command.options[optionOf.get(flag) ?? ""]?.many === true
  const give = (flag: string, value: string) => {
    const before = isMany(flag) ? given.get(flag) : undefined
    given.set(flag, before === undefined ? value : `${before}\n${value}`)
  }
  const places = (command.arguments ?? []).map(flagOf)
  for (const token of tokens) {
    if (token.kind === "option-terminator") continue
    if (token.kind === "positional") {
      const flag = places.find((place) => !given.has(place) || isMany(place))
      if (flag === undefined) throw fail(`it takes no argument ${quoted(token.value)}`)
      give(flag, token.value)
      continue
    }
    if (token.name === "help") return "help"
    if (!known.includes(token.name)) throw fail(`there is no flag ${unknown(token.rawName, known)}`)
    if (!takesValue(token.name)) {
      if (token.value !== undefined) throw fail(`--${token.name} takes no value`)
      given.set(token.name, "")
      continue
    }
    const missing = token.value === undefined || (!token.inlineValue && token.value.startsWith("--"))
    if (missing)
      throw fail(`--${token.name} needs a value: expected ${kindOf(command, token.name)?.expected}`)
    give(token.name, token.value)
  }

  const options: Record<string, unknown> = {}
  for (const [flag, name] of optionOf) {
    const option = command.options[name] as Option
    if (option.kind === undefined) {
      options[name] = given.has(flag)
      continue
    }
    const value = given.get(flag) ?? option.default
    if (value === undefined) {
      if (!option.required) continue
      const placed = places.includes(flag) ? option.kind.placeholder : `--${flag}`
      throw fail(`${placed} is missing: expected ${option.kind.expected}`)
    }
    const read = value === "" ? undefined : option.kind.read(value.trim())
    if (read === undefined)
      throw fail(`--${flag} is ${JSON.stringify(value)}: expected ${option.kind.expected}`)
    options[name] = read
  }
  return { settings: new Map([...given].filter(([flag]) => settingFlags.has(flag))), options }
}

const kindOf = (command: Accepted, flag: string) => {
  const setting = command.settings.find((name) => flagOf(name) === flag)
  if (setting !== undefined) return settings[setting].kind
  return Object.entries(command.options).find(([name]) => flagOf(name) === flag)?.[1].kind
}

const unknown = (rawName: string, known: ReadonlyArray<string>): string => {
  const near = closest(rawName.replace(/^-+/, ""), known)
  return `${quoted(rawName)}${near === undefined ? "" : ` (did you mean --${near}?)`}`
}

/** A URL on a command line may hold a password. */
const quoted = (text: string): string => (text.includes("://") ? "(a URL)" : JSON.stringify(text))
