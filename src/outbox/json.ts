/** The JSON form of a JavaScript value: what a serializer returns, as the consumer will read it. */

/**
 * The type a value has after its journey as JSON: `Date`, `bigint` and bytes become strings, what `toJSON` returns
 * counts, properties that may be undefined become optional, functions and symbols have no form.
 */
export type JsonForm<T> = unknown extends T
  ? T
  : T extends string | number | boolean | null
    ? T
    : T extends bigint | Date | Uint8Array
      ? string
      : T extends undefined | symbol | ((...args: never) => unknown)
        ? never
        : T extends { toJSON(...args: never): infer J }
          ? JsonForm<J>
          : T extends readonly unknown[]
            ? { [I in keyof T]: JsonForm<T[I]> | (undefined extends T[I] ? null : never) }
            : T extends object
              ? JsonObject<T>
              : never

type Flat<T> = { [K in keyof T]: T[K] } & {}
type MayMiss<T, K extends keyof T> = undefined extends T[K] ? (unknown extends T[K] ? never : K) : never
type Formless = symbol | ((...args: never) => unknown)
type JsonObject<T> = Flat<
  {
    -readonly [K in keyof T as K extends symbol
      ? never
      : T[K] extends Formless
        ? never
        : MayMiss<T, K>]?: JsonForm<Exclude<T[K], undefined>>
  } & {
    -readonly [K in keyof T as K extends symbol
      ? never
      : T[K] extends Formless
        ? never
        : Exclude<K, MayMiss<T, K>>]: JsonForm<T[K]>
  }
>

/** A value without a JSON form, and where it stands. */
export class NoJsonForm extends Error {}

/**
 * A value's JSON text: `Date` as ISO-8601 UTC with milliseconds, `bigint` as a decimal string, bytes as base64,
 * `toJSON` honoured; undefined properties are left out and undefined elements are null, as `JSON.stringify` has it.
 *
 * Throws `NoJsonForm` where `JSON.stringify` would lie or lose: NaN and infinities, invalid dates, functions, symbols,
 * `Map`, `Set`, a top-level undefined; and for cycles (or nesting deeper than the stack).
 */
export const jsonText = (value: unknown): string => {
  const text = write(value, "")
  if (text === undefined) throw new NoJsonForm("undefined has no JSON form")
  return text
}

const write = (value: unknown, path: string): string | undefined => {
  switch (typeof value) {
    case "string":
      return JSON.stringify(value)
    case "number":
      if (Number.isFinite(value)) return JSON.stringify(value)
      throw none(String(value), path)
    case "boolean":
      return value ? "true" : "false"
    case "bigint":
      return `"${value}"`
    case "undefined":
      return undefined
    case "object":
      return value === null ? "null" : writeObject(value, path)
    default:
      throw none(`a ${typeof value}`, path)
  }
}

const writeObject = (value: object, path: string): string | undefined => {
  if (Array.isArray(value)) {
    let text = "["
    for (let i = 0; i < value.length; i++)
      text += (i === 0 ? "" : ",") + (write(value[i], `${path}[${i}]`) ?? "null")
    return `${text}]`
  }
  if (value instanceof Date) return `"${isoText(value, path)}"`
  if (value instanceof Uint8Array) return `"${base64(value)}"`
  if ("toJSON" in value && typeof value.toJSON === "function") return write(value.toJSON(""), path)
  if (value instanceof Map || value instanceof Set || ArrayBuffer.isView(value))
    throw none(`a ${value.constructor.name}`, path)
  if (value instanceof String || value instanceof Number || value instanceof Boolean)
    return write(value.valueOf(), path)
  let text = "{"
  for (const name of Object.keys(value)) {
    const member = write((value as Record<string, unknown>)[name], path === "" ? name : `${path}.${name}`)
    if (member !== undefined) text += `${text.length === 1 ? "" : ","}${JSON.stringify(name)}:${member}`
  }
  return `${text}}`
}

/**
 * A date as ISO-8601 UTC with milliseconds, from 1000-01-01 to 9999-12-30: years of four digits in every time zone, as
 * neither PostgreSQL's text nor `Date` agree on others.
 */
export const isoText = (date: Date, path = ""): string => {
  const time = date.getTime()
  if (!(time >= FIRST && time <= LAST))
    throw none(Number.isNaN(time) ? "an invalid date" : `the date ${date.toISOString()}`, path)
  return date.toISOString()
}

const FIRST = Date.parse("1000-01-01T00:00:00.000Z")
const LAST = Date.parse("9999-12-30T23:59:59.999Z")

/** Bytes as base64, unbroken, padded. */
export const base64 = (bytes: Uint8Array): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("base64")

const none = (what: string, path: string): NoJsonForm =>
  new NoJsonForm(`${what}${path === "" ? "" : ` at ${path}`} has no JSON form`)
