/** What RabbitMQ's STOMP plugin makes of a destination. */

/** Where a SEND publishes to. */
export interface Target {
  /** Empty: the default exchange, which routes to the queue of the key's name. */
  readonly exchange: string
  readonly key: string
  /** SEND declares the queue itself. */
  readonly declares: boolean
}

/** `undefined` where the plugin refuses the destination, or knows it only as a reply's. */
export const targetOf = (destination: string): Target | undefined => {
  const [empty, kind = "", ...rest] = destination.split("/")
  if (empty !== "") return undefined
  if (kind === "amq" && rest[0] === "queue") return toOne(rest.slice(1), "", false)
  if (kind === "queue") return toOne(rest, "", true)
  if (kind === "topic") return toOne(rest, "amq.topic", false)
  if (kind === "exchange" && rest[0] !== undefined && rest[0] !== "" && rest.length <= 2)
    return { exchange: unescaped(rest[0]), key: unescaped(rest[1] ?? ""), declares: false }
  return undefined
}

const toOne = (rest: ReadonlyArray<string>, exchange: string, declares: boolean): Target | undefined =>
  rest.length === 1 && rest[0] !== undefined && rest[0] !== ""
    ? { exchange, key: unescaped(rest[0]), declares }
    : undefined

const unescaped = (text: string): string => {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}
