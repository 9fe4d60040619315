/** STOMP 1.2 frames on their way out. Source: stomp.github.io/stomp-specification-1.2.html. */
import type { Outgoing } from "../broker.ts"

const special = /[\\\r\n:]/

const escapes: Readonly<Record<string, string>> = { "\\": "\\\\", "\r": "\\r", "\n": "\\n", ":": "\\c" }

/** Header names and values of every frame but CONNECT and CONNECTED. */
export const escaped = (text: string): string =>
  special.test(text) ? text.replace(/[\\\r\n:]/g, (character) => escapes[character] as string) : text

/** A frame without a body. */
export const encodeFrame = (command: string, headers: Readonly<Record<string, string>>): string => {
  let frame = `${command}\n`
  for (const name in headers) frame += `${escaped(name)}:${escaped(headers[name] as string)}\n`
  return `${frame}\n\0`
}

/**
 * Bytes of command and headers, a mebi: a larger frame is not sent, as a consumer of ours would end its connection over it
 * (`parser.ts`) and get it again, for ever.
 */
export const HEAD_LIMIT = 1 << 20

/** Why a message can never be a frame. */
export interface Unspeakable {
  readonly scope: "message"
  readonly words: string
}

const unspeakable = (words: string): Unspeakable => ({ scope: "message", words })

const holdsNul = unspeakable("a header or the destination holds a NUL character, which STOMP cannot carry")
const holdsHalf = unspeakable(
  "a header or the destination holds half of a surrogate pair, which UTF-8 cannot carry",
)
const tooLong = unspeakable(`the headers, with destination and key, are over ${HEAD_LIMIT} bytes`)

const speakable = (text: string): string | Unspeakable =>
  text.includes("\0") ? holdsNul : isWellFormed(text) ? escaped(text) : holdsHalf

interface Line {
  readonly name: string
  value: string
  text: string
}

/** The last line of each header: of the messages of one event most say the same but for their ids. */
const lines = new Map<string, Line>()
const MOST_LINES = 1000

const lineOf = (name: string, value: string): string | Unspeakable => {
  const line = lines.get(name)
  if (line !== undefined && line.value === value) return line.text
  const [first, second] = [line?.name ?? speakable(name), speakable(value)]
  if (typeof first !== "string") return first
  if (typeof second !== "string") return second
  const text = `${first}:${second}\n`
  if (value.length > 200) return text
  if (line !== undefined) {
    line.value = value
    line.text = text
  } else if (lines.size < MOST_LINES) lines.set(name, { name: first, value, text })
  return text
}

/**
 * A SEND frame: persistent, with a receipt, or its transaction instead, and the body's length; text as text, bytes as bytes.
 *
 * **Details**  The protocol's own headers stand first: of a repeated header a broker takes the first, so that no header
 * of the message can redirect it. Its own `receipt`, which would be the first inside a transaction, is left out: the
 * broker would confirm another message with it.
 */
export const encodeSend = (
  message: Outgoing,
  receipt: number,
  idHeader: string | undefined,
  transaction?: string,
): string | Buffer | Unspeakable => {
  const { body, headers, contentType } = message
  const destination = lineOf("destination", message.destination)
  if (typeof destination !== "string") return destination
  const of = transaction === undefined ? `receipt:${receipt}` : `transaction:${transaction}`
  let head = `SEND\n${destination}${of}\npersistent:true\ncontent-length:${bodyLength(message)}\n`
  if (contentType !== "") {
    const line = lineOf("content-type", contentType)
    if (typeof line !== "string") return line
    head += line
  }
  if (idHeader !== undefined) {
    const line = lineOf(idHeader, message.id)
    if (typeof line !== "string") return line
    head += line
  }
  for (const name in headers) {
    if (name === "receipt") continue
    const line = lineOf(name, headers[name] as string)
    if (typeof line !== "string") return line
    head += line
  }
  // No UTF-16 unit takes more than three bytes.
  if (3 * head.length > HEAD_LIMIT && Buffer.byteLength(head) > HEAD_LIMIT) return tooLong
  if (typeof body === "string") return `${head}\n${body}\0`
  const headLength = Buffer.byteLength(head)
  const frame = Buffer.allocUnsafe(headLength + 1 + body.byteLength + 1)
  frame.write(head, 0)
  frame[headLength] = 10
  frame.set(body, headLength + 1)
  frame[headLength + 1 + body.byteLength] = 0
  return frame
}

/** Every Node that runs this has the method; the compiler's library is older. */
const isWellFormed = (text: string): boolean =>
  (text as unknown as { readonly isWellFormed: () => boolean }).isWellFormed()

/** How many bytes of body a message has on the wire. */
export const bodyLength = ({ body }: Outgoing): number =>
  typeof body === "string" ? Buffer.byteLength(body) : body.byteLength
