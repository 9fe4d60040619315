/** Where a broker is, read from its URL. */
import * as Redacted from "effect/Redacted"
import { BrokerError } from "../broker.ts"

export type Scheme = "stomp" | "stomps" | "ws" | "wss"

export interface Endpoint {
  readonly scheme: Scheme
  readonly host: string
  readonly port: number
  /** Path and query of a WebSocket. */
  readonly path: string
  readonly virtualHost: string | undefined
  readonly login: string | undefined
  readonly passcode: Redacted.Redacted<string> | undefined
  /** The URL without login and password: what errors and logs show. */
  readonly label: string
}

const ports: Readonly<Record<Scheme, number>> = { stomp: 61613, stomps: 61614, ws: 80, wss: 443 }

const invalid = (index: number, what: string) =>
  new BrokerError({
    reason: "refused",
    message: `broker URL ${index + 1} ${what}; expected stomp://user:password@host:61613/virtual-host, or stomps, ws, wss`,
  })

/**
 * `stomp://user:password@host:61613/virtual-host` (the path names the virtual host, percent-encoded) or
 * `ws://user:password@host:15674/ws` (the path belongs to the WebSocket). Throws a `BrokerError` that never repeats the
 * URL, as it may hold a password.
 */
export const parseEndpoint = (url: string, index: number): Endpoint => {
  const parsed = URL.canParse(url) ? new URL(url) : undefined
  if (parsed === undefined || parsed.hostname === "") throw invalid(index, "is not a URL with a host")
  const scheme = parsed.protocol.slice(0, -1)
  if (!(scheme === "stomp" || scheme === "stomps" || scheme === "ws" || scheme === "wss"))
    throw invalid(index, `has the unknown scheme "${scheme}"`)
  const webSocket = scheme === "ws" || scheme === "wss"
  const port = parsed.port === "" ? ports[scheme] : Number(parsed.port)
  const path = webSocket ? `${parsed.pathname}${parsed.search}` : ""
  let login: string
  let passcode: string
  let virtualHost: string
  try {
    login = decodeURIComponent(parsed.username)
    passcode = decodeURIComponent(parsed.password)
    virtualHost = webSocket ? "" : decodeURIComponent(parsed.pathname.slice(1))
  } catch {
    throw invalid(index, "has a percent sign that encodes nothing")
  }
  return {
    scheme,
    host: parsed.hostname.replace(/^\[(.*)\]$/, "$1"),
    port,
    path,
    virtualHost: virtualHost === "" ? undefined : virtualHost,
    login: login === "" ? undefined : login,
    passcode: passcode === "" ? undefined : Redacted.make(passcode),
    label: `${scheme}://${parsed.hostname}:${port}${path}`,
  }
}
