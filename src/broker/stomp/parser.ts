/**
 * STOMP 1.2 frames on their way in.
 *
 * stompjs 7.5.0 has a parser too; this one is used for what it receives because that one turns an escaped backslash
 * followed by "n" into a line feed, trims header values, takes a `content-length` that is no number for an endless
 * body, and walks through every body byte by byte.
 */

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
const MAX_HEAD = 1 << 20
const MAX_BODY = 1 << 28

const unescapes: Readonly<Record<string, string>> = { "\\\\": "\\", "\\r": "\r", "\\n": "\n", "\\c": ":" }

const unescaped = (text: string): string =>
  text.includes("\\") ? text.replace(/\\[\\rnc]/g, (sequence) => unescapes[sequence] as string) : text

/** Where the body begins, or -1 when the blank line has not come yet. */
const findBody = (bytes: Buffer, from: number): number => {
  const end = Math.min(bytes.length, from + MAX_HEAD)
  for (let at = from; at < end; at++) {
    const byte = bytes[at]
    if (byte === 0) throw new ProtocolError("a frame ended within its headers")
    if (byte !== LF) continue
    if (bytes[at + 1] === LF) return at + 2
    if (bytes[at + 1] === CR && bytes[at + 2] === LF) return at + 3
  }
  if (bytes.length - from > MAX_HEAD) throw new ProtocolError(`headers of more than ${MAX_HEAD} bytes`)
  return -1
}

const parseHead = (text: string): { command: string; headers: Record<string, string> } => {
  const lines = text.split("\n")
  const command = trimCr(lines[0] as string)
  // CONNECTED is the one frame whose headers are not escaped.
  const decode = command === "CONNECTED" ? (value: string) => value : unescaped
  const headers: Record<string, string> = Object.create(null)
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

const RECEIPT = Buffer.from("RECEIPT\nreceipt-id:")
const DIGITS = 15

/** Where the digits of a RECEIPT of nothing but a number end, or -1: of a stream of confirmations each is one. */
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
 * instead for a RECEIPT whose id is a plain number.
 *
 * **Gotchas**  Throws `ProtocolError` for what is no STOMP; the rest of the stream means nothing then.
 */
export const makeParser = (
  onFrame: (frame: Frame) => void,
  onReceipt?: (id: number) => void,
): ((chunk: Buffer) => void) => {
  let kept: Array<Buffer> = []
  let size = 0
  /** Bytes without which there is no use in looking again: a large body is put together once. */
  let need = 0

  const keep = (rest: Buffer, atLeast: number) => {
    kept = [rest]
    size = rest.length
    need = atLeast
  }

  return (chunk) => {
    let bytes = chunk
    if (size > 0) {
      kept.push(chunk)
      size += chunk.length
      if (size < need) return
      bytes = Buffer.concat(kept, size)
      kept = []
      size = 0
    }
    let at = 0
    for (;;) {
      while (bytes[at] === LF || bytes[at] === CR) at++
      if (at >= bytes.length) return
      const digits = onReceipt === undefined ? -1 : endOfReceipt(bytes, at)
      if (digits > 0) {
        onReceipt?.(numberAt(bytes, at + RECEIPT.length, digits))
        at = digits + 3
        continue
      }
      const body = findBody(bytes, at)
      if (body < 0) return keep(bytes.subarray(at), 0)
      const { command, headers } = parseHead(bytes.toString("utf8", at, body))
      const length = contentLength(headers["content-length"])
      const end = length === undefined ? bytes.indexOf(0, body) : body + length
      if (end < 0) {
        if (bytes.length - body > MAX_BODY) throw new ProtocolError("a body without an end")
        return keep(bytes.subarray(at), 0)
      }
      if (end >= bytes.length) return keep(bytes.subarray(at), end + 1 - at)
      if (bytes[end] !== 0) throw new ProtocolError("a body longer than its content-length")
      onFrame({ command, headers, body: bytes.subarray(body, end) })
      at = end + 1
    }
  }
}
