/** Spans of time as people write and read them: "30 days", "12h", "500 ms". */
import * as Duration from "effect/Duration"
import type { Kind } from "./kind.ts"

const UNITS: ReadonlyArray<readonly [pattern: RegExp, millis: number]> = [
  [/^(ms|millis|milliseconds?)$/, 1],
  [/^(s|secs?|seconds?)$/, 1000],
  [/^(m|mins?|minutes?)$/, 60_000],
  [/^(h|hours?)$/, 3_600_000],
  [/^(d|days?)$/, 86_400_000],
  [/^(w|weeks?)$/, 604_800_000],
]

/** Reads a number with its unit; 0 needs none. */
const parse = (given: string): Duration.Duration | undefined => {
  const [, amount, unit = ""] = /^(\d{1,12}(?:\.\d{1,6})?)\s*([a-z]*)$/i.exec(given) ?? []
  if (amount === undefined) return undefined
  if (unit === "") return Number(amount) === 0 ? Duration.zero : undefined
  const millis = UNITS.find(([pattern]) => pattern.test(unit.toLowerCase()))?.[1]
  return millis === undefined ? undefined : Duration.millis(Number(amount) * millis)
}

/** A span of time within bounds, both included and given as this kind reads them. */
export const duration = (least: string, most?: string): Kind<Duration.Duration> => {
  const low = Duration.toMillis(parse(least) ?? Duration.zero)
  const high = most === undefined ? Number.POSITIVE_INFINITY : Duration.toMillis(parse(most) ?? Duration.zero)
  const range = most === undefined ? (low === 0 ? "" : ` of ${least} or more`) : ` from ${least} to ${most}`
  return {
    placeholder: "DURATION",
    expected: `a duration with its unit${range}, such as "500 ms", "10 s", "12h" or "30 days"`,
    read: (given) => {
      const span = parse(given)
      if (span === undefined) return undefined
      const millis = Duration.toMillis(span)
      return millis >= low && millis <= high ? span : undefined
    },
  }
}

/** A span in one or two units: "850 ms", "4.2 s", "3 min 20 s", "5 h 12 min", "12 d 3 h". */
export const formatMillis = (millis: number): string => {
  const rounded = Math.max(0, Math.round(millis))
  if (rounded < 1000) return `${rounded} ms`
  if (rounded < 60_000) return `${Math.floor(rounded / 100) / 10} s`
  const seconds = Math.floor(rounded / 1000)
  const [big, bigName, small, smallName] =
    seconds < 3600
      ? [Math.floor(seconds / 60), "min", seconds % 60, "s"]
      : seconds < 86_400
        ? [Math.floor(seconds / 3600), "h", Math.floor(seconds / 60) % 60, "min"]
        : [Math.floor(seconds / 86_400), "d", Math.floor(seconds / 3600) % 24, "h"]
  return small === 0 ? `${big} ${bigName}` : `${big} ${bigName} ${small} ${smallName}`
}
