/** What a value given as text may look like: one reader for environment variables, flags and defaults. */
import { accessSync, constants, readFileSync } from "node:fs"
import { dirname, resolve } from "node:path"
import * as Redacted from "effect/Redacted"
import { STRAY_AT, strayAt } from "../store/database-url.ts"
import { quoteSchema } from "../store/schema-name.ts"

/** A way to read a text. */
export interface Kind<out A> {
  /** Stands for the value in `--help`. */
  readonly placeholder: string
  /** Completes "expected …". */
  readonly expected: string
  /** `undefined` for a text that is not one. */
  readonly read: (text: string) => A | undefined
  /** True where the text must not be repeated in an error. */
  readonly secret?: boolean
}

export const text = (placeholder: string, expected: string): Kind<string> => ({
  placeholder,
  expected,
  read: (given) => given,
})

export const count = (least: number, most: number): Kind<number> => ({
  placeholder: "N",
  expected: `a whole number from ${least.toLocaleString("en")} to ${most.toLocaleString("en")}`,
  read: (given) => {
    const number = /^\d{1,15}$/.test(given) ? Number(given) : Number.NaN
    return number >= least && number <= most ? number : undefined
  },
})

/** `on` and `off`, and what else people write for them. */
export const toggle: Kind<boolean> = {
  placeholder: "on|off",
  expected: '"on" or "off"',
  read: (given) => {
    const word = given.toLowerCase()
    if (["on", "true", "yes", "1"].includes(word)) return true
    return ["off", "false", "no", "0"].includes(word) ? false : undefined
  },
}

/** One of the keys of `values`. */
export const choice = <A>(placeholder: string, values: Readonly<Record<string, A>>): Kind<A> => ({
  placeholder,
  expected: `one of ${Object.keys(values).join(", ")}`,
  read: (given) => (Object.hasOwn(values, given.toLowerCase()) ? values[given.toLowerCase()] : undefined),
})

export const schemaName: Kind<string> = {
  placeholder: "NAME",
  expected: "the name of a PostgreSQL schema, 1 to 63 bytes",
  read: (given) => {
    try {
      quoteSchema(given)
      return given
    } catch {
      return undefined
    }
  },
}

export const databaseUrl: Kind<Redacted.Redacted<string>> = {
  placeholder: "URL",
  expected: `postgres://user:password@host:5432/database (${STRAY_AT})`,
  secret: true,
  read: (given) =>
    /^postgres(ql)?:\/\/[^/\s]+/.test(given) && !strayAt(given) ? Redacted.make(given) : undefined,
}

export const brokerUrls: Kind<ReadonlyArray<Redacted.Redacted<string>>> = {
  placeholder: "URL[,URL…]",
  expected:
    "stomp://user:password@host:61613/virtual-host (or stomps, ws, wss), several separated by commas; what is special in a user or password is percent-encoded",
  secret: true,
  read: (given) => {
    const urls = given.split(",").map((url) => url.trim())
    const fits = (url: string) =>
      /^(stomps?|wss?):\/\//.test(url) && URL.canParse(url) && new URL(url).hostname !== "" && !strayAt(url)
    return urls.every(fits) ? urls.map((url) => Redacted.make(url)) : undefined
  },
}

export const httpUrl: Kind<Redacted.Redacted<string>> = {
  placeholder: "URL",
  expected: "http://user:password@host:15672 (or https)",
  secret: true,
  read: (given) => (/^https?:\/\//.test(given) && URL.canParse(given) ? Redacted.make(given) : undefined),
}

/** A destination, or whether there is one at all. */
export const deadLetter: Kind<string | boolean> = {
  placeholder: "on|off|DESTINATION",
  expected: '"on", "off" or a destination such as /queue/dead',
  read: (given) => (/^\/[^\s/]/.test(given) ? given : toggle.read(given)),
}

/** Headers by name. */
export const headerList: Kind<Readonly<Record<string, string>>> = {
  placeholder: "NAME:VALUE[,…]",
  expected: "headers as name:value, several separated by commas",
  read: (given) => {
    const pairs = given.split(",").map((pair) => /^\s*([^:\s]+)\s*:\s*(.+?)\s*$/.exec(pair))
    return pairs.every((pair) => pair !== null)
      ? Object.fromEntries(pairs.map((pair) => [pair[1] ?? "", pair[2] ?? ""]))
      : undefined
  },
}

/** A module and the name of one of its exports. */
export interface ModuleExport {
  readonly module: string
  readonly export: string
}

export const moduleExport: Kind<ModuleExport> = {
  placeholder: "MODULE#EXPORT",
  expected: "a module and the name of its export, such as ./handlers.js#handleOrder",
  read: (given) => {
    const hash = given.lastIndexOf("#")
    const module = hash < 0 ? given : given.slice(0, hash)
    return module === "" ? undefined : { module, export: given.slice(module.length + 1) || "default" }
  },
}

/** The content of a PEM file. */
export const pemFile: Kind<string> = {
  placeholder: "FILE",
  expected: "a PEM file that can be read",
  read: (given) => {
    try {
      const content = readFileSync(given, "utf8")
      return content.includes("-----BEGIN ") ? content : undefined
    } catch {
      return undefined
    }
  },
}

/** A file that this program may write. */
export const writableFile: Kind<string> = {
  placeholder: "FILE",
  expected: "a file in a folder that can be written",
  read: (given) => {
    try {
      accessSync(dirname(resolve(given)), constants.W_OK)
      return given
    } catch {
      return undefined
    }
  },
}

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i

export const isUuid = (given: string): boolean => UUID.test(given)

/** Whether they must be UUIDs depends on where the messages are. */
export const messageIds: Kind<ReadonlyArray<string>> = {
  placeholder: "ID[,ID…]",
  expected: "the id of a message, several separated by commas",
  read: (given) => {
    const ids = given.split(",").map((id) => id.trim())
    return ids.includes("") ? undefined : ids
  },
}
