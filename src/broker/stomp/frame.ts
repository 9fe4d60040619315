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
 * A SEND frame: persistent, with a receipt, or its transaction instead, and the body's length; text as text, bytes as bytes.
 *
 * **Details**  The protocol's own headers stand first: of a repeated header a broker takes the first, so that no header
 * of the message can redirect it. Undefined when a header holds a NUL, which STOMP cannot carry.
 */
export const encodeSend = (
  message: Outgoing,
  receipt: number,
  idHeader: string | undefined,
  transaction?: string,
): string | Buffer | undefined => {
  const { body, headers, contentType } = message
  const of = transaction === undefined ? `receipt:${receipt}\n` : `transaction:${transaction}\n`
  const length = typeof body === "string" ? Buffer.byteLength(body) : body.byteLength
  let head = `SEND\ndestination:${escaped(message.destination)}\n${of}persistent:true\ncontent-length:${length}\n`
  if (contentType !== "") head += `content-type:${escaped(contentType)}\n`
  if (idHeader !== undefined) head += `${idHeader}:${escaped(message.id)}\n`
  for (const name in headers) head += `${escaped(name)}:${escaped(headers[name] as string)}\n`
  if (head.includes("\0")) return undefined
  if (typeof body === "string") return `${head}\n${body}\0`
  const headLength = Buffer.byteLength(head)
  const frame = Buffer.allocUnsafe(headLength + 1 + length + 1)
  frame.write(head, 0)
  frame[headLength] = 10
  frame.set(body, headLength + 1)
  frame[headLength + 1 + length] = 0
  return frame
}

/** How many bytes of body a message has on the wire. */
export const bodyLength = ({ body }: Outgoing): number =>
  typeof body === "string" ? Buffer.byteLength(body) : body.byteLength
