/** What a database URL says of TLS, in the words that psql and its kin know; postgres.js by itself knows half of them. */
import { readFileSync } from "node:fs"
import { isIP } from "node:net"
import { type ConnectionOptions, checkServerIdentity } from "node:tls"
import * as Redacted from "effect/Redacted"
import { StoreError } from "./error.ts"

export interface DatabaseAddress {
  /** The URL without what it said of TLS. */
  readonly url: string
  /** As postgres.js takes it. */
  readonly ssl: false | "prefer" | ConnectionOptions
}

const PARAMETERS = ["sslmode", "ssl", "sslrootcert", "sslcert", "sslkey"] as const

type Parameter = (typeof PARAMETERS)[number]

/**
 * Reads `sslmode`, `sslrootcert`, `sslcert` and `sslkey` of a URL, or of PGSSLMODE, PGSSLROOTCERT, PGSSLCERT and PGSSLKEY:
 * `disable` (without any: no TLS), `prefer` and `allow` (TLS if the server has it, unverified), `require` (TLS, unverified
 * unless `sslrootcert` is given), `verify-ca` (signed by `sslrootcert`, or by an authority that Node trusts), `verify-full`
 * (and for this host). Throws a `StoreError` that repeats no URL.
 */
export const readDatabaseUrl = (
  given: string | Redacted.Redacted<string>,
  environment: NodeJS.ProcessEnv = process.env,
): DatabaseAddress => {
  const text = Redacted.isRedacted(given) ? Redacted.value(given) : given
  const [, start = "", query = ""] = /^([^?#]*)\??(.*)$/s.exec(text) ?? []
  if (strayAt(text)) throw wrong(STRAY_AT)
  const parameters = new URLSearchParams(query)
  const told = (name: Parameter): string | undefined =>
    parameters.get(name) || environment[`PG${name.toUpperCase()}`] || undefined
  const root = told("sslrootcert")
  const mode = told("sslmode") ?? told("ssl") ?? (root === undefined ? "disable" : "verify-full")
  const files = {
    ...(root === undefined || root === "system" ? {} : { ca: read("sslrootcert", root) }),
    ...fileOf("cert", "sslcert", told("sslcert")),
    ...fileOf("key", "sslkey", told("sslkey")),
  }
  const ssl = sslOf(mode, root, hostOf(start), files)
  for (const name of PARAMETERS) parameters.delete(name)
  const rest = parameters.toString()
  return { url: rest === "" ? start : `${start}?${rest}`, ssl }
}

/** True where an `@` stands behind the host of a URL: then part of a password was taken for the host. */
export const strayAt = (url: string): boolean => /^[a-z]+:\/\/[^/?#]*[/?#].*@/is.test(url)

export const STRAY_AT =
  'a "/", "?" or "#" of its user or password must be percent-encoded (%2F, %3F, %23), and so must an "@" behind the host (%40)'

const sslOf = (
  mode: string,
  root: string | undefined,
  host: string | undefined,
  files: ConnectionOptions,
): DatabaseAddress["ssl"] => {
  switch (mode) {
    case "disable":
    case "false":
      return false
    case "allow":
    case "prefer":
      return "prefer"
    case "require":
    case "true":
      return root === undefined ? { ...files, rejectUnauthorized: false } : { ...files, ...signedOnly }
    case "verify-ca":
      return { ...files, ...signedOnly }
    case "verify-full":
      return {
        ...files,
        rejectUnauthorized: true,
        // Node would compare the certificate with "localhost", as postgres.js tells it no host that is an address.
        ...(host !== undefined &&
          isIP(host) !== 0 && {
            checkServerIdentity: (_, certificate) => checkServerIdentity(host, certificate),
          }),
      }
    default:
      throw wrong(
        `its sslmode is ${JSON.stringify(mode)}: expected disable, prefer, require, verify-ca or verify-full`,
      )
  }
}

const signedOnly: ConnectionOptions = { rejectUnauthorized: true, checkServerIdentity: () => undefined }

/** The one host; undefined where there are several, or none. */
const hostOf = (start: string): string | undefined => {
  const authority = /^[a-z]+:\/\/([^/]*)/i.exec(start)?.[1] ?? ""
  const host = authority.slice(authority.lastIndexOf("@") + 1)
  if (host.includes(",")) return undefined
  return /^\[(.*)\](:\d*)?$/.exec(host)?.[1] ?? host.replace(/:\d*$/, "")
}

const fileOf = (name: "cert" | "key", parameter: Parameter, path: string | undefined): ConnectionOptions =>
  path === undefined ? {} : { [name]: read(parameter, path) }

const read = (parameter: Parameter, path: string): string => {
  let content: string | undefined
  try {
    content = readFileSync(path, "utf8")
  } catch {
    // Said below.
  }
  if (content?.includes("-----BEGIN ")) return content
  throw wrong(`its ${parameter} ${JSON.stringify(path)} is no PEM file that can be read`)
}

const wrong = (words: string): StoreError =>
  new StoreError({ reason: "statement", message: `the database URL cannot be used: ${words}` })
