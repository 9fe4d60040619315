/**
 * Every setting of the programs. One table gives the variables, the flags, the defaults, `--help` and the README's table:
 * `databaseUrl` is `OUTBOX_DATABASE_URL` and `--database-url`.
 */
import { duration } from "./cli/duration.ts"
import { CliError } from "./cli/failure.ts"
import {
  brokerUrls,
  choice,
  count,
  databaseUrl,
  deadLetter,
  headerList,
  httpUrl,
  type Kind,
  pemFile,
  schemaName,
  text,
  toggle,
  writableFile,
} from "./cli/kind.ts"

/** A row of the table. */
export interface Setting {
  readonly kind: Kind<unknown>
  /** As one would give it; a setting without a default is not set. */
  readonly default?: string
  /** What stands for a default that is only known at run time. */
  readonly shown?: string
  readonly help: string
}

/** The table, in the order in which it is shown. */
export const settings = {
  databaseUrl: { kind: databaseUrl, help: "The database that holds the outbox. Required." },
  schema: { kind: schemaName, default: "outbox", help: "PostgreSQL schema of the outbox's tables." },
  brokerUrl: {
    kind: brokerUrls,
    help: "The broker, or several hosts of one cluster, tried in turn. Required, unless STOMP_HOST and its like are set.",
  },
  vhost: {
    kind: text("NAME", "the name of a virtual host"),
    help: 'Virtual host of the broker; wins over the path of its URL. Without either: "/".',
  },
  brokerTlsCa: {
    kind: pemFile,
    help: "Authorities trusted for stomps and wss instead of the system's.",
  },
  brokerTlsCert: { kind: pemFile, help: "Certificate by which the broker knows this program." },
  brokerTlsKey: { kind: pemFile, help: "Its private key." },
  brokerTlsServername: {
    kind: text("NAME", "a host name"),
    help: "Name that the broker's certificate must carry, where it is not the host of the URL.",
  },
  brokerTlsVerify: {
    kind: toggle,
    default: "on",
    help: "off takes any certificate: whoever sits in between reads and changes everything.",
  },
  brokerManagementUrl: {
    kind: httpUrl,
    help: "RabbitMQ's management API, for strict mode and `doctor`: `http://user:password@host:15672`; without a login, the broker URL's.",
  },
  heartbeat: {
    kind: duration("0", "10 minutes"),
    default: "10 s",
    help: "How often the broker and we show each other that we live; 0 for never.",
  },
  receiptTimeout: {
    kind: duration("100 ms", "1 h"),
    default: "30 s",
    help: "How long a confirmation may take before its destination, or the broker, counts as silent.",
  },
  strict: {
    kind: toggle,
    default: "off",
    help: "on holds a destination that is proven to lead nowhere, instead of sending what RabbitMQ would confirm and drop. Needs the management URL.",
  },
  relayName: {
    kind: text("NAME", "a name"),
    shown: "host:pid",
    help: "What `status` and the logs call this relay.",
  },
  window: {
    kind: count(1, 100_000),
    default: "1000",
    help: "Messages in flight at the most, and so repeated at the most after a crash.",
  },
  batch: { kind: count(1, 10_000), default: "250", help: "Messages in one read at the most." },
  lease: {
    kind: duration("1 s", "10 minutes"),
    default: "10 s",
    help: "How long a relay's lanes stay its own without a sign of life; a killed relay is replaced within this + 2 s.",
  },
  pollInterval: {
    kind: duration("1 ms", "1 h"),
    default: "500 ms",
    help: "Longest pause between looks at an idle outbox.",
  },
  listen: {
    kind: toggle,
    default: "off",
    help: "Wake up by LISTEN, for writers that use `Nudge.notify`; takes one connection.",
  },
  maxAttempts: {
    kind: count(1, 1_000_000),
    default: "50",
    help: "Refusals by the broker, or failures of a handler, after which a message is dead. An outage counts as none.",
  },
  retention: {
    kind: duration("0"),
    default: "30 days",
    help: "How long published messages stay, from when they were published; 0 deletes them at once.",
  },
  deadRetention: {
    kind: duration("0"),
    shown: "until discarded",
    help: "How long dead messages stay, from when they died.",
  },
  drainTimeout: {
    kind: duration("0", "10 minutes"),
    default: "5 s",
    help: "How long a stop waits for the confirmations, or the handlers, of what is in flight.",
  },
  djangoHeaders: {
    kind: toggle,
    default: "on",
    help: "Send the headers that django-outbox-pattern reads (`dop-…`), too.",
  },
  consumer: {
    kind: text("NAME", "a name"),
    help: "The consumer's name: the scope in which a message has its effect once. Instances of one service share it. Required to consume.",
  },
  consumerName: {
    kind: text("NAME", "a name"),
    shown: "host:pid",
    help: "What `status` and the logs call this instance of the consumer.",
  },
  order: {
    kind: choice("key|none", { key: "key", none: "none" } as const),
    default: "key",
    help: "key: one instance at a time reads the queue and a key's messages are handled in order; none: all instances share the work, and nothing waits for anything.",
  },
  parallel: {
    kind: count(1, 1000),
    default: "8",
    help: "Handlers at a time, each with a key and a database connection of its own; two more connections do the rest.",
  },
  prefetch: {
    kind: count(1, 65_535),
    default: "100",
    help: "Deliveries that the broker hands out before the first is settled.",
  },
  handlerTimeout: {
    kind: duration("1 ms", "24 h"),
    default: "60 s",
    help: "How long a handler may take.",
  },
  pauseAfter: {
    kind: count(1, 1_000_000),
    default: "10",
    help: "So many different keys whose handlers fail in a row make a consumer pause.",
  },
  deadLetter: {
    kind: deadLetter,
    default: "off",
    help: "Destination that gets a copy of what dies in a consumer, through the outbox; on: `/queue/DLQ.<queue>`.",
  },
  inboxRetention: {
    kind: duration("0"),
    default: "30 days",
    help: "How long handled messages are remembered, and so repeats recognised.",
  },
  subscriptionHeaders: {
    kind: headerList,
    help: "Further headers of the subscription in the broker's own terms: `x-queue-type:quorum`.",
  },
  livenessFile: {
    kind: writableFile,
    help: "File touched about every second while a relay keeps its lease or a consumer works or waits, with or without a broker.",
  },
  logLevel: {
    kind: choice("LEVEL", {
      debug: "Debug",
      info: "Info",
      warn: "Warn",
      error: "Error",
      none: "None",
    } as const),
    default: "info",
    help: "Least severe lines that are logged.",
  },
} as const satisfies Readonly<Record<string, Setting>>

export type SettingName = keyof typeof settings

/** Where the database is. */
export const DATABASE_SETTINGS = ["databaseUrl", "schema"] as const

/** How the broker is reached. */
export const BROKER_SETTINGS = [
  "brokerUrl",
  "vhost",
  "brokerTlsCa",
  "brokerTlsCert",
  "brokerTlsKey",
  "brokerTlsServername",
  "brokerTlsVerify",
  "heartbeat",
] as const

/** How RabbitMQ's management is reached, as the same user with the same certificates. */
export const MANAGEMENT_SETTINGS = [...BROKER_SETTINGS, "brokerManagementUrl"] as const

type ValueOf<S> = S extends { readonly kind: Kind<infer A> }
  ? S extends { readonly default: string }
    ? A
    : A | undefined
  : never

/** The values of settings: their own type where there is a default, else possibly `undefined`. */
export type Config<Name extends SettingName = SettingName> = {
  readonly [K in Name]: ValueOf<(typeof settings)[K]>
}

/** `OUTBOX_BROKER_URL` */
export const variableOf = (name: SettingName): string =>
  `OUTBOX_${name.replace(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()}`

/** `broker-url` */
export const flagOf = (name: string): string => name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)

/**
 * Reads these settings: a flag wins over its variable, a variable over the default, and an empty variable is not set.
 * Throws a `CliError` whose sentence names the first one that is wrong, and repeats no secret.
 */
export const readConfig = <Name extends SettingName>(
  names: ReadonlyArray<Name>,
  environment: NodeJS.ProcessEnv,
  flags: ReadonlyMap<string, string> = new Map(),
): Config<Name> => {
  const values: Partial<Record<SettingName, unknown>> = {}
  for (const name of names) {
    const setting: Setting = settings[name]
    const flag = flags.get(flagOf(name))
    const given = flag ?? (environment[variableOf(name)] || setting.default)
    if (given === undefined) continue
    const value = given === "" ? undefined : setting.kind.read(given.trim())
    if (value === undefined) throw wrong(name, flag === undefined ? "variable" : "flag", given)
    values[name] = value
  }
  return values as Config<Name>
}

/** The value of a setting that must be set; throws a `CliError` that says how. */
export const required = <Name extends SettingName>(
  name: Name,
  config: Config<Name>,
): Exclude<Config<Name>[Name], undefined> => {
  const value = config[name]
  if (value === undefined)
    throw new CliError({
      message: `${variableOf(name)} (--${flagOf(name)}) is missing: expected ${settings[name].kind.expected}`,
    })
  return value as Exclude<Config<Name>[Name], undefined>
}

const wrong = (name: SettingName, source: "variable" | "flag", given: string): CliError => {
  const { kind }: Setting = settings[name]
  const [first, second] =
    source === "flag" ? [`--${flagOf(name)}`, variableOf(name)] : [variableOf(name), `--${flagOf(name)}`]
  const value = kind.secret ? "not a value it can have" : JSON.stringify(given)
  return new CliError({ message: `${first} (${second}) is ${value}: expected ${kind.expected}` })
}

/** What `--help` and the README say of a setting's default. */
export const defaultOf = (name: SettingName): string | undefined => {
  const setting: Setting = settings[name]
  return setting.default ?? setting.shown
}

/** The README's table of settings, in Markdown. */
export const settingsTable = (): string => {
  const rows = (Object.keys(settings) as SettingName[]).map((name) => {
    const value = defaultOf(name)
    return `| \`${variableOf(name)}\` | \`--${flagOf(name)}\` | ${value === undefined ? "" : `\`${value}\``} | ${settings[name].help} |`
  })
  return ["| variable | flag | default | what it sets |", "| --- | --- | --- | --- |", ...rows].join("\n")
}
