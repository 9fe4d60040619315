/** Bodies as a handler reads them. */
import * as Exit from "effect/Exit"
import * as Schema from "effect/Schema"
import type * as StandardSchema from "effect/StandardSchema"
import type { BodySchema } from "../outbox/body.ts"

/** Gives a body its type. Throws (or rejects with) an error whose message says why it cannot. */
export type Decoder = (
  body: Uint8Array,
  headers: Readonly<Record<string, string>>,
) => unknown | Promise<unknown>

/** The body is no message of this kind: trying again cannot help. */
export class Undecodable extends Error {}

/**
 * Reads a body by its content type: JSON is parsed, other text stays text, anything else bytes. Then the schema: an
 * Effect Schema decodes what its encoder made, a Standard Schema gives its output.
 */
export const decoder = (schema: BodySchema | undefined): Decoder => {
  if (schema === undefined) return raw
  if (Schema.isSchema(schema)) {
    const decode = Schema.decodeUnknownExit(Schema.toCodecJson(schema as Schema.Codec<unknown>))
    return (body, headers) => {
      const exit = decode(json(body, headers))
      if (Exit.isSuccess(exit)) return exit.value
      const [reason] = exit.cause.reasons
      throw new Undecodable(
        `the schema does not accept the body: ${wordsOf(reason?._tag === "Fail" ? reason.error : exit.cause)}`,
      )
    }
  }
  const standard = schema as StandardSchema.StandardSchemaV1
  return (body, headers) => {
    const settle = (result: StandardSchema.StandardSchemaV1.Result<unknown>) => {
      if (!result.issues) return result.value
      throw new Undecodable(
        `the schema does not accept the body: ${result.issues.map(({ message }) => message).join("; ")}`,
      )
    }
    const result = standard["~standard"].validate(json(body, headers))
    return result instanceof Promise ? result.then(settle) : settle(result)
  }
}

const raw: Decoder = (body, headers) => {
  const type = contentTypeOf(headers)
  if (isJson(type)) return json(body, headers)
  return type.startsWith("text/") ? text(body) : body
}

export const isJson = (type: string): boolean =>
  type === "" || type === "application/json" || type.endsWith("+json")

const contentTypeOf = (headers: Readonly<Record<string, string>>): string => {
  const type = headers["content-type"] ?? ""
  const end = type.indexOf(";")
  return (end < 0 ? type : type.slice(0, end)).trim().toLowerCase()
}

const json = (body: Uint8Array, headers: Readonly<Record<string, string>>): unknown => {
  const source = text(body)
  try {
    return JSON.parse(source)
  } catch (error) {
    // What names no type may be any text.
    if (headers["content-type"] === undefined) return source
    throw new Undecodable(`the body is no JSON: ${wordsOf(error)}`)
  }
}

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: false })

const text = (body: Uint8Array): string => {
  try {
    return utf8.decode(body)
  } catch {
    throw new Undecodable("the body is no UTF-8")
  }
}

/** What somebody threw, in words. JavaScript lets them throw, and call a message, anything. */
export const wordsOf = (thrown: unknown): string => {
  try {
    const said: unknown = thrown instanceof Error ? thrown.message || thrown.name : thrown
    return typeof said === "string" ? said : (JSON.stringify(said) ?? String(said))
  } catch {
    return Object.prototype.toString.call(thrown)
  }
}
