/** What the programs log: a readable line on a terminal, a JSON line elsewhere; no secret, no body. */
import * as Cause from "effect/Cause"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import type * as LogLevel from "effect/LogLevel"
import * as References from "effect/References"
import { withoutSecrets } from "./secret.ts"
import { visible } from "./table.ts"

/** Lines from this level up, on standard output for a service and on standard error beside a command's answer. */
export const layerLogging = (
  level: LogLevel.LogLevel,
  stream: NodeJS.WriteStream = process.stdout,
): Layer.Layer<never> => {
  const format = stream.isTTY ? readable : json
  return Layer.merge(
    Logger.layer([
      Logger.make<unknown, void>((entry) => void stream.write(`${withoutSecrets(format(lineOf(entry)))}\n`)),
    ]),
    Layer.succeed(References.MinimumLogLevel, level),
  )
}

interface Line {
  readonly time: string
  readonly level: string
  readonly message: string
  readonly annotations: Readonly<Record<string, unknown>>
}

const lineOf = (entry: Logger.Options<unknown>): Line => {
  const parts = (Array.isArray(entry.message) ? entry.message : [entry.message]).map(words)
  if (entry.cause.reasons.length > 0) parts.push(Cause.pretty(entry.cause))
  return {
    time: entry.date.toISOString(),
    level: entry.logLevel.toLowerCase(),
    message: parts.join(": "),
    annotations: entry.fiber.getRef(References.CurrentLogAnnotations),
  }
}

/** An error's other properties (a statement's parameters, say) are nobody's business. */
const words = (part: unknown): string =>
  part instanceof Error ? part.message : typeof part === "string" ? part : JSON.stringify(part)

const json = ({ time, level, message, annotations }: Line): string => {
  const line = { time, level, message }
  return JSON.stringify({ ...line, ...annotations, ...line })
}

const readable = ({ time, level, message, annotations }: Line): string => {
  const fields = Object.entries(annotations)
    .filter(([, value]) => value !== undefined && value !== null)
    .map(
      ([name, value]) =>
        `${name}=${typeof value === "string" && /^[\w./:-]+$/.test(value) ? value : JSON.stringify(value)}`,
    )
  return visible([time.slice(11, 23), level.toUpperCase().padEnd(5), message, ...fields].join(" "))
}
