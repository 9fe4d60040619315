/** RabbitMQ's management API: HTTP that answers in JSON. No password is in what it says of a failure. */
import { request as requestHttp } from "node:http"
import { request as requestHttps } from "node:https"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import { BrokerError } from "../broker.ts"
import type { TlsOptions } from "../stomp/wire.ts"

export interface ManagementOptions {
  /** `http://user:password@host:15672`, or https; a path before `/api` is kept. */
  readonly url: string | Redacted.Redacted<string>
  /** Where the URL has none. Default "guest". */
  readonly login?: string | undefined
  /** Where the URL has none. Default "guest". */
  readonly passcode?: Redacted.Redacted<string> | undefined
  /** For https. */
  readonly tls?: TlsOptions
}

export interface Answer {
  readonly status: number
  readonly body: unknown
  /** The server's clock as its `Date` header gives it, in milliseconds, cut to the second. */
  readonly date: number | undefined
}

export interface Management {
  /** The URL without login and password. */
  readonly label: string
  /** GET of a path below `/api`, whatever the status. Fails when there is no answer in JSON within 5 seconds. */
  readonly ask: (path: string) => Effect.Effect<Answer, BrokerError>
  /** The same where anything but 200 is a failure. */
  readonly get: (path: string) => Effect.Effect<unknown, BrokerError>
}

const TIMEOUT = 5000
/** Bytes of an answer. */
const MOST = 64 * 1024 * 1024

/** Throws a `BrokerError`, which repeats no URL, for what is none. */
export const makeManagement = (options: ManagementOptions): Management => {
  const given = Redacted.isRedacted(options.url) ? Redacted.value(options.url) : options.url
  const url = URL.canParse(given) ? new URL(given) : undefined
  if (url === undefined || !/^https?:$/.test(url.protocol) || url.hostname === "")
    throw new BrokerError({
      reason: "refused",
      message: "the management URL is not one: expected http://user:password@host:15672",
    })
  const login = url.username === "" ? (options.login ?? "guest") : decoded(url.username)
  const passcode =
    url.username === "" ? (options.passcode ?? Redacted.make("guest")) : Redacted.make(decoded(url.password))
  const prefix = url.pathname.replace(/\/(api\/?)?$/, "")
  const label = `${url.protocol}//${url.host}${prefix}`
  const secure = url.protocol === "https:"

  const ask = (path: string) =>
    Effect.callback<Answer, BrokerError>((resume) => {
      const fail = (reason: BrokerError["reason"], words: string) =>
        resume(Effect.fail(new BrokerError({ reason, message: `${label}: ${words}` })))
      const request = (secure ? requestHttps : requestHttp)(
        {
          host: url.hostname.replace(/^\[(.*)\]$/, "$1"),
          port: url.port === "" ? (secure ? 443 : 80) : Number(url.port),
          path: `${prefix}/api${path}`,
          auth: `${login}:${Redacted.value(passcode)}`,
          headers: { accept: "application/json" },
          ...(secure ? options.tls : {}),
        },
        (response) => {
          const parts: Buffer[] = []
          let size = 0
          response.on("data", (part: Buffer) => {
            size += part.length
            parts.push(part)
            if (size > MOST) request.destroy(new Error(`an answer of more than ${MOST} bytes`))
          })
          response.on("error", (error) => fail("unreachable", error.message))
          response.on("end", () => {
            try {
              const text = Buffer.concat(parts).toString("utf8")
              const date = Date.parse(response.headers.date ?? "")
              const body: unknown = text === "" ? undefined : JSON.parse(text)
              const status = response.statusCode ?? 0
              resume(Effect.succeed({ status, body, date: Number.isNaN(date) ? undefined : date }))
            } catch {
              fail(
                "refused",
                `no JSON at /api (HTTP status ${response.statusCode}): is it RabbitMQ's management?`,
              )
            }
          })
        },
      )
      const timer = setTimeout(() => {
        fail("timeout", `no answer within ${TIMEOUT} ms`)
        request.destroy()
      }, TIMEOUT)
      request.on("error", (error) => fail("unreachable", error.message || error.name))
      request.on("close", () => clearTimeout(timer))
      request.end()
      return Effect.sync(() => void request.destroy())
    })

  const get = (path: string) =>
    Effect.flatMap(ask(path), ({ status, body }) => {
      if (status === 200) return Effect.succeed(body)
      const what = path.replace(/\?.*$/, "")
      const words =
        status === 401
          ? `"${login}" may not use the management API (HTTP status 401): give it the tag "management", and a password that fits`
          : status === 404
            ? `no ${what} (HTTP status 404)`
            : `HTTP status ${status} for ${what}`
      return Effect.fail(new BrokerError({ reason: "refused", message: `${label}: ${words}` }))
    })

  return { label, ask, get }
}

const decoded = (text: string): string => {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}
