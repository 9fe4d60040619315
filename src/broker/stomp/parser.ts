/**
 * STOMP 1.2 frames on their way in.
 *
 * stompjs 7.5.0 has a parser too; this one is used for what it receives because that one turns an escaped backslash
 * followed by "n" into a line feed, trims header values, takes a `content-length` that is no number for an endless
 * body, and walks through every body byte by byte.
 */
import { HEAD_LIMIT } from "./frame.ts"

export interface Frame {
  readonly command: string
  /** Unescaped; of a repeated header the first. */
  readonly headers: Readonly<Record<string, string>>
  /** A view of what was received. */
  readonly body: Buffer
}

/** What arrived is not STOMP. */
export class ProtocolError extends Error {}

const LF = 10
const CR = 13
/** Bytes of command and headers, and of a body, above which the peer is taken for mad. */
const MAX_HEAD = 2 * HEAD_LIMIT
const MAX_BODY = 1 << 28

const unescapes: Readonly<Record<string, string>> = { "\\\\": "\\", "\\r": "\r", "\\n": "\n", "\\c": ":" }

const unescaped = (text: string): string =>
  text.includes("\\") ? text.replace(/\\[\\rnc]/g, (sequence) => unescapes[sequence] as string) : text

/** Where the body of a frame that begins at `from` begins, or -1 when the blank line has not come yet. Nothing is looked for before `looked`. */
const findBody = (bytes: Buffer, from: number, looked: number): number => {
  const end = Math.min(bytes.length, from + MAX_HEAD)
  for (let at = looked; at < end; at++) {
    const byte = bytes[at]
    if (byte === 0) throw new ProtocolError("a frame ended within its headers")
    if (byte !== LF) continue
    if (bytes[at + 1] === LF) return at + 2
    if (bytes[at + 1] === CR && bytes[at + 2] === LF) return at + 3
  }
  if (bytes.length - from > MAX_HEAD) throw new ProtocolError(`headers of more than ${MAX_HEAD} bytes`)
  return -1
}

/** Objects that inherit nothing. Made with `new` they are as fast as others; `Object.create(null)` makes a hash table. */
class Headers {
  [name: string]: string
}
Object.setPrototypeOf(Headers.prototype, null)
Reflect.deleteProperty(Headers.prototype, "constructor")

const parseHead = (text: string): { command: string; headers: Record<string, string> } => {
  const lines = text.split("\n")
  const command = trimCr(lines[0] as string)
  // CONNECTED is the one frame whose headers are not escaped.
  const decode = command === "CONNECTED" ? (value: string) => value : unescaped
  const headers = new Headers()
  for (let index = 1; index < lines.length; index++) {
    const line = trimCr(lines[index] as string)
    if (line === "") continue
    const colon = line.indexOf(":")
    if (colon < 0) throw new ProtocolError("a header without a colon")
    headers[decode(line.slice(0, colon))] ??= decode(line.slice(colon + 1))
  }
  return { command, headers }
}

const trimCr = (line: string) => (line.endsWith("\r") ? line.slice(0, -1) : line)

const contentLength = (text: string | undefined): number | undefined => {
  if (text === undefined) return undefined
  const length = /^\d{1,9}$/.test(text.trim()) ? Number(text) : Number.NaN
  if (!(length <= MAX_BODY)) throw new ProtocolError("a content-length that is no number, or too large")
  return length
}

interface Head {
  readonly command: string
  readonly headers: Readonly<Record<string, string>>
  /** Where the body begins, from the frame's beginning. */
  readonly body: number
  /** Undefined: the body ends with the next NUL. */
  readonly length: number | undefined
}

/** A blank line may be cut in two. */
const CUT = 2

const nothing = Buffer.alloc(0)

const RECEIPT = Buffer.from("RECEIPT\nreceipt-id:")
const DIGITS = 15
const PLAIN = new RegExp(`^\\d{1,${DIGITS}}$`)

/** Where the digits of a RECEIPT of nothing but a number end, or -1: of a stream of confirmations each is one, and not worth a frame. */
const endOfReceipt = (bytes: Buffer, at: number): number => {
  for (let index = 0; index < RECEIPT.length; index++) if (bytes[at + index] !== RECEIPT[index]) return -1
  const start = at + RECEIPT.length
  let end = start
  while ((bytes[end] as number) >= 48 && (bytes[end] as number) <= 57) end++
  const whole = bytes[end] === LF && bytes[end + 1] === LF && bytes[end + 2] === 0
  return whole && end > start && end - start <= DIGITS ? end : -1
}

const numberAt = (bytes: Buffer, from: number, to: number): number => {
  let number = 0
  for (let index = from; index < to; index++) number = number * 10 + (bytes[index] as number) - 48
  return number
}

/**
 * Takes what the socket read and calls back for each complete frame; heart-beats are skipped. `onReceipt` is called
 * instead for a RECEIPT whose id is a plain number. No byte is looked at twice and none copied more than about twice,
 * however the stream is cut.
 *
 * **Gotchas**  Throws `ProtocolError` for what is no STOMP; the rest of the stream means nothing then.
 */
export const makeParser = (
  onFrame: (frame: Frame) => void,
  onReceipt?: (id: number) => void,
): ((chunk: Buffer) => void) => {
  /** The beginning of a frame that is not complete, and room behind it. */
  let kept: Buffer = nothing
  let size = 0
  /** Of the frame that begins: bytes that have been looked at in vain, bytes without which there is no use in looking on, and its head once that is known. */
  let looked = 0
  let need = 0
  let head: Head | undefined

  const keep = (rest: Buffer, atLeast: number, seen: number) => {
    if (size === 0) kept = rest
    else if (rest.length < size) kept = Buffer.from(rest)
    size = rest.length
    need = atLeast
    looked = seen
  }
  const append = (chunk: Buffer): Buffer => {
    if (size === 0) return chunk
    if (kept.length < size + chunk.length) {
      const more = size + chunk.length
      const room = Math.max(2 * size, more)
      const roomy = Buffer.allocUnsafe(need === 0 ? room : Math.max(more, Math.min(room, need)))
      roomy.set(kept.subarray(0, size))
      kept = roomy
    }
    kept.set(chunk, size)
    size += chunk.length
    return kept.subarray(0, size)
  }

  return (chunk) => {
    const bytes = append(chunk)
    if (size > 0 && size < need) return
    let at = 0
    for (;;) {
      if (head === undefined) {
        while (bytes[at] === LF || bytes[at] === CR) at++
        if (at >= bytes.length) break
        const digits = onReceipt === undefined ? -1 : endOfReceipt(bytes, at)
        if (digits > 0) {
          onReceipt?.(numberAt(bytes, at + RECEIPT.length, digits))
          looked = 0
          at = digits + 3
          continue
        }
        const start = findBody(bytes, at, at + looked)
        if (start < 0) return keep(bytes.subarray(at), 0, Math.max(0, bytes.length - at - CUT))
        const { command, headers } = parseHead(bytes.toString("utf8", at, start))
        head = { command, headers, body: start - at, length: contentLength(headers["content-length"]) }
        looked = head.body
      }
      const { command, headers, body, length } = head
      const end = length === undefined ? bytes.indexOf(0, at + looked) : at + body + length
      if (end < 0) {
        if (bytes.length - at - body > MAX_BODY) throw new ProtocolError("a body without an end")
        return keep(bytes.subarray(at), 0, bytes.length - at)
      }
      if (end >= bytes.length) return keep(bytes.subarray(at), end + 1 - at, looked)
      if (bytes[end] !== 0) throw new ProtocolError("a body longer than its content-length")
      head = undefined
      looked = 0
      const receipt = command === "RECEIPT" ? headers["receipt-id"] : undefined
      if (onReceipt !== undefined && receipt !== undefined && PLAIN.test(receipt)) onReceipt(Number(receipt))
      else onFrame({ command, headers, body: bytes.subarray(at + body, end) })
      at = end + 1
    }
    // What was handed out are views: the room is not used again.
    kept = nothing
    size = 0
    need = 0
  }
}
