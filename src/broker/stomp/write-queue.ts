/** What waits for the kernel: frames of one turn of the event loop in one write, and one write at a time. */

/** A write takes about so many bytes; a larger frame goes alone. */
const WRITE_BYTES = 256 * 1024

/** Text is turned into bytes in pieces of about so many characters, so that no string grows without bound. */
const TEXT_LENGTH = 64 * 1024

export interface WriteQueue {
  readonly push: (frame: string | Uint8Array) => void
  /** Bytes pushed that the kernel has not taken yet, as far as is known: text counts its characters until it is encoded. */
  readonly size: () => number
  /** Drops what waits and takes nothing more. */
  readonly close: () => void
}

/**
 * **Details**  `write` is called again only after it called back, so that destroying the socket leaves at most one write
 * behind, of which the kernel takes no further byte.
 */
export const makeWriteQueue = (write: (bytes: Uint8Array, done: () => void) => void): WriteQueue => {
  let text = ""
  let chunks: Array<Uint8Array> = []
  let size = 0
  let writing = 0
  let scheduled = false
  let closed = false

  const encodeText = () => {
    if (text === "") return
    const bytes = Buffer.from(text)
    size += bytes.length - text.length
    text = ""
    chunks.push(bytes)
  }
  const next = (): Uint8Array | undefined => {
    encodeText()
    let count = 0
    let bytes = 0
    for (const chunk of chunks) {
      if (count > 0 && bytes + chunk.length > WRITE_BYTES) break
      bytes += chunk.length
      count++
    }
    if (count === 0) return undefined
    const taken = chunks.splice(0, count)
    return taken.length === 1 ? taken[0] : Buffer.concat(taken, bytes)
  }
  const written = () => {
    size -= writing
    writing = 0
    if (!closed && (text !== "" || chunks.length > 0)) schedule()
  }
  const flush = () => {
    scheduled = false
    if (closed || writing > 0) return
    const bytes = next()
    if (bytes === undefined) return
    writing = bytes.length
    write(bytes, written)
  }
  const schedule = () => {
    if (scheduled || writing > 0) return
    scheduled = true
    setImmediate(flush)
  }

  return {
    push: (frame) => {
      if (closed) return
      size += frame.length
      if (typeof frame === "string") {
        text += frame
        if (text.length >= TEXT_LENGTH) encodeText()
      } else {
        encodeText()
        chunks.push(frame)
      }
      schedule()
    },
    size: () => size,
    close: () => {
      closed = true
      text = ""
      chunks = []
      size = 0
      writing = 0
    },
  }
}
