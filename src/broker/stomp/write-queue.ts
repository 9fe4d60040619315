/** What waits for the kernel: frames of one turn of the event loop in one write, and one write at a time. */

/** A write takes so many bytes at the most; a larger frame goes alone. */
const WRITE_BYTES = 256 * 1024

/** Text is kept in pieces of about so many characters, so that no string grows without bound. */
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
 * behind, of which the kernel takes no further byte; and so that the bytes of every write are the same memory.
 */
export const makeWriteQueue = (write: (bytes: Uint8Array, done: () => void) => void): WriteQueue => {
  let text = ""
  let pieces: Array<string | Uint8Array> = []
  let buffer: Buffer | undefined
  let size = 0
  let writing = 0
  let scheduled = false
  let closed = false

  const closeText = () => {
    if (text === "") return
    pieces.push(text)
    text = ""
  }
  const next = (): Uint8Array | undefined => {
    closeText()
    const [first] = pieces
    if (first === undefined) return undefined
    buffer ??= Buffer.allocUnsafeSlow(WRITE_BYTES)
    let taken = 0
    let bytes = 0
    for (const piece of pieces) {
      if (lengthOf(piece) > WRITE_BYTES - bytes) break
      if (typeof piece === "string") {
        const written = buffer.write(piece, bytes)
        size += written - piece.length
        bytes += written
      } else {
        buffer.set(piece, bytes)
        bytes += piece.length
      }
      taken++
    }
    pieces.splice(0, Math.max(1, taken))
    if (taken > 0) return buffer.subarray(0, bytes)
    const large = typeof first === "string" ? Buffer.from(first) : first
    size += large.length - first.length
    return large
  }
  const written = () => {
    size -= writing
    writing = 0
    if (!closed && (text !== "" || pieces.length > 0)) schedule()
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
        if (text.length >= TEXT_LENGTH) closeText()
      } else {
        closeText()
        pieces.push(frame)
      }
      schedule()
    },
    size: () => size,
    close: () => {
      closed = true
      text = ""
      pieces = []
      size = 0
      writing = 0
    },
  }
}

const lengthOf = (piece: string | Uint8Array) =>
  typeof piece === "string" ? Buffer.byteLength(piece) : piece.length
