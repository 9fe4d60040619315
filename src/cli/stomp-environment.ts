/** The variables by which django-outbox-pattern's users are used to name their broker. */
import * as Redacted from "effect/Redacted"
import { CliError } from "./failure.ts"
import { toggle } from "./kind.ts"

/** Their names, for `--help`. */
export const STOMP_VARIABLES = [
  "STOMP_HOST",
  "STOMP_PORT",
  "STOMP_USERNAME",
  "STOMP_PASSCODE",
  "STOMP_VHOST",
  "STOMP_USE_SSL",
]

/**
 * The broker that `STOMP_HOST`, `STOMP_PORT`, `STOMP_USERNAME`, `STOMP_PASSCODE`, `STOMP_VHOST` and `STOMP_USE_SSL` name;
 * `undefined` when none is set. Each has django-outbox-pattern's default: 127.0.0.1, 61613, guest, guest, "/", off.
 */
export const stompEnvironment = (
  environment: NodeJS.ProcessEnv,
): ReadonlyArray<Redacted.Redacted<string>> | undefined => {
  if (!STOMP_VARIABLES.some((name) => environment[name])) return undefined
  const host = environment["STOMP_HOST"] || "127.0.0.1"
  const port = environment["STOMP_PORT"] || "61613"
  if (!/^\d{1,5}$/.test(port) || Number(port) < 1 || Number(port) > 65_535)
    throw new CliError({
      message: `STOMP_PORT is ${JSON.stringify(port)}: expected a port from 1 to 65535`,
    })
  const secure = toggle.read(environment["STOMP_USE_SSL"] || "off")
  if (secure === undefined)
    throw new CliError({
      message: `STOMP_USE_SSL is ${JSON.stringify(environment["STOMP_USE_SSL"])}: expected ${toggle.expected}`,
    })
  const [user, password, vhost] = [
    environment["STOMP_USERNAME"] || "guest",
    environment["STOMP_PASSCODE"] || "guest",
    environment["STOMP_VHOST"] || "/",
  ].map(encodeURIComponent)
  const name = host.includes(":") && !host.startsWith("[") ? `[${host}]` : host
  const url = `${secure ? "stomps" : "stomp"}://${user}:${password}@${name}:${port}/${vhost}`
  if (!URL.canParse(url))
    throw new CliError({
      message: `STOMP_HOST is ${JSON.stringify(host)}: expected a host name or an address`,
    })
  return [Redacted.make(url)]
}
