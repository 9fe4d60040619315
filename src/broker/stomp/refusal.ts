/**
 * What the words of an ERROR frame say about the messages in flight.
 *
 * RabbitMQ 3.10.8 names no receipt in any ERROR frame, so its words are all there is. Seen (`message` header: body):
 *
 * | sent | ERROR | then |
 * | --- | --- | --- |
 * | SEND `/nope/x` | `Unknown destination: '/nope/x' is not a valid destination.\nValid destination types are: …` | open |
 * | SEND `/queue/` | `Invalid destination: '/' is not a valid queue destination` | open |
 * | SEND without a destination | `Invalid destination: Destination cannot be blank` | open |
 * | SEND with `message-id` | `Invalid header: 'message-id' is not allowed on 'SEND'.` | open |
 * | SEND with `transaction:z` | `Bad transaction: Invalid transaction identifier: "z"` | open |
 * | SEND with `priority:abc`, or what else `rabbitmq.ts` does not let pass | `Processing error: Processing error` | open, takes what comes behind |
 * | SEND with `user-id:nobody` | `precondition_failed: PRECONDITION_FAILED - user_id property set to 'nobody' but authenticated user was 'u'` | closed |
 * | SEND with `expiration:abc` | `precondition_failed: PRECONDITION_FAILED - invalid expiration 'abc': no_integer` | closed |
 * | SEND `/exchange/x/k`, no such exchange | `not_found: NOT_FOUND - no exchange 'x' in vhost '/'` | closed |
 * | SEND `/amq/queue/none`, no such queue | none: receipted and dropped | open |
 * | SEND `/queue/secret`, no right | `access_refused: ACCESS_REFUSED - access to queue 'secret' in vhost '/' refused for user 'u'` | closed |
 * | SEND `/topic/x`, no right | `access_refused: ACCESS_REFUSED - access to exchange 'amq.topic' in vhost '/' refused for user 'u'` | closed |
 * | SEND `/queue/q`, declared otherwise | `precondition_failed: PRECONDITION_FAILED - inequivalent arg 'x-…' for queue 'q' in vhost '/': …` | closed |
 * | SEND over `max_message_size` (128 MiB) | `precondition_failed: PRECONDITION_FAILED - message size 600000 is larger than configured max size 500000` | closed |
 * | frames after one that closes | `Processing error: Processing error` each, possibly *before* the ERROR that explains | closed |
 * | over WebSocket, anything that closes | none; close code 1000 with the reason `STOMP died` | closed |
 * | connection closed by an operator | `AMQP channel died: Reason: {shutdown,{connection_closing,{server_initiated_close,320,…` | closed |
 */
import type { Outgoing, RefusalScope } from "../broker.ts"
import { bodyLength } from "./frame.ts"
import type { Frame } from "./parser.ts"

/**
 * - `named`: says what is refused. `one`: an ERROR comes for each such message, so it is about the oldest in flight.
 *   `closes`: the broker takes nothing more on this connection.
 * - `outage`: the broker or an operator ends the connection, whatever was sent.
 * - `unnamed`: says that something went wrong.
 */
export type ErrorMeaning =
  | {
      readonly _tag: "named"
      readonly scope: RefusalScope
      readonly closes: boolean
      readonly one: boolean
      /** It is about the largest body of those that match. */
      readonly largest: boolean
      readonly matches: (message: Outgoing) => boolean
    }
  | { readonly _tag: "outage" }
  | { readonly _tag: "unnamed" }

/** Of what an ERROR says, so much is read: a mad peer could say gigabytes, over which patterns would brood for hours. */
const LONGEST = 4 * 1024

/** One line of what an ERROR frame says, for people. */
export const wordsOf = ({ headers, body }: Frame): string => {
  const title = (headers["message"] ?? "").slice(0, LONGEST)
  // ActiveMQ's body is the stack of what its title says.
  const said = body.toString("utf8", 0, LONGEST)
  const stack = title !== "" && /\n\tat /.test(said)
  const text = stack ? "" : said.trim()
  const words =
    text === "" || text === title ? title : text.toLowerCase().startsWith(title) ? text : `${title}: ${text}`
  return (words === "" ? "ERROR without words" : words).replace(/\s+/g, " ").slice(0, 1000)
}

type Matches = (message: Outgoing) => boolean

const atDestination =
  (matches: (destination: string) => boolean): Matches =>
  ({ destination }) =>
    matches(destination)

/** The part of a destination after its prefix, up to the next slash, decoded as RabbitMQ does. */
const segment = (destination: string, prefix: string): string | undefined => {
  if (!destination.startsWith(prefix)) return undefined
  const rest = destination.slice(prefix.length).split("/", 1)[0] as string
  try {
    return decodeURIComponent(rest)
  } catch {
    return rest
  }
}

const toExchange = (exchange: string): Matches =>
  atDestination((destination) => {
    if (exchange === "amq.default") return /^\/(queue|amq\/queue|reply-queue)\//.test(destination)
    if (exchange === "amq.topic" && destination.startsWith("/topic/")) return true
    return segment(destination, "/exchange/") === exchange
  })

const toQueue = (queue: string): Matches =>
  atDestination(
    (destination) =>
      segment(destination, "/queue/") === queue || segment(destination, "/amq/queue/") === queue,
  )

interface Rule {
  readonly pattern: RegExp
  readonly scope: RefusalScope
  readonly closes?: true
  readonly one?: true
  readonly largest?: true
  readonly matches: (first: string, second: string) => Matches
}

const rules: ReadonlyArray<Rule> = [
  {
    pattern: /NOT_FOUND - no exchange '(.*)' in vhost/s,
    scope: "destination",
    closes: true,
    matches: toExchange,
  },
  { pattern: /NOT_FOUND - no queue '(.*)' in vhost/s, scope: "destination", closes: true, matches: toQueue },
  {
    pattern: /access to topic '(.*)' in exchange '(.*)' in vhost .* refused/s,
    scope: "destination",
    closes: true,
    matches: (topic, exchange) => (message) =>
      toExchange(exchange)(message) &&
      (message.destination === `/topic/${topic}` || message.destination.endsWith(`/${topic}`)),
  },
  {
    pattern: /access to exchange '(.*)' in vhost .* refused/s,
    scope: "destination",
    closes: true,
    matches: toExchange,
  },
  {
    pattern: /access to queue '(.*)' in vhost .* refused/s,
    scope: "destination",
    closes: true,
    matches: toQueue,
  },
  {
    pattern: /inequivalent arg '.*' for queue '(.*)' in vhost/s,
    scope: "destination",
    closes: true,
    matches: toQueue,
  },
  {
    pattern: /message size (\d+) is larger than configured max size/,
    scope: "message",
    closes: true,
    matches: (size) => (message) => bodyLength(message) === Number(size),
  },
  {
    pattern: /The maximum (?:frame size|data length) was exceeded/,
    scope: "message",
    closes: true,
    one: true,
    largest: true,
    matches: () => (message) => bodyLength(message) > 0,
  },
  {
    pattern: /not authorized to write to: (queue|topic):\/\/(.*)/,
    scope: "destination",
    matches: (kind, name) => atDestination((destination) => destination === `/${kind}/${name}`),
  },
  {
    pattern: /invalid expiration '(.*)':/s,
    scope: "message",
    closes: true,
    matches: (value) => (message) => message.headers["expiration"] === value,
  },
  {
    pattern: /'(.*)' is not a valid destination\./s,
    scope: "destination",
    matches: (name) => atDestination((destination) => destination === name),
  },
  {
    pattern: /'(.*)' is not a valid (\S+) destination/s,
    scope: "destination",
    matches: (rest, kind) => atDestination((destination) => destination === `/${kind}${rest}`),
  },
  {
    pattern: /Destination cannot be blank/,
    scope: "destination",
    matches: () => atDestination((destination) => destination === ""),
  },
  {
    pattern: /'(.*)' is not allowed on 'SEND'/s,
    scope: "message",
    one: true,
    matches: (name) => (message) => name in message.headers,
  },
  {
    // The second is ActiveMQ's.
    pattern: /Invalid transaction id(?:entifier)?: "?(.*?)"?$/m,
    scope: "message",
    one: true,
    matches: (name) => (message) => message.headers["transaction"] === name,
  },
]

/** Whether the reason given with the end of a WebSocket is that of a connection that ended over what it was sent. */
export const blamesContent = (said: string): boolean => said === "STOMP died"

const outage = /CONNECTION_FORCED|server_initiated_close,320|connection_closing|\bshutdown\b/

/** Reads an ERROR frame. */
export const meaningOf = (frame: Frame): ErrorMeaning => {
  const title = (frame.headers["message"] ?? "").slice(0, LONGEST)
  const text = `${title}\n${frame.body.toString("utf8", 0, LONGEST)}`
  for (const { pattern, scope, closes = false, one = false, largest = false, matches } of rules) {
    const found = pattern.exec(text)
    if (found !== null) {
      return { _tag: "named", scope, closes, one, largest, matches: matches(found[1] ?? "", found[2] ?? "") }
    }
  }
  return outage.test(text) ? { _tag: "outage" } : { _tag: "unnamed" }
}
