/** Frames in and out, and what ERROR frames mean. */
import { describe, expect, it } from "vitest"
import type { Outgoing } from "../../src/broker/broker.ts"
import { encodeFrame, encodeSend } from "../../src/broker/stomp/frame.ts"
import { type Frame, makeParser, ProtocolError } from "../../src/broker/stomp/parser.ts"
import { profileOf } from "../../src/broker/stomp/profile.ts"
import { meaningOf, wordsOf } from "../../src/broker/stomp/refusal.ts"
import { outgoing } from "../suites/broker.ts"

const parse = (...chunks: ReadonlyArray<string | Uint8Array>) => {
  const frames: Array<Frame> = []
  const feed = makeParser((frame) => frames.push(frame))
  for (const chunk of chunks) feed(Buffer.from(chunk))
  return frames
}

describe("the parser", () => {
  const stream = Buffer.concat([
    Buffer.from(
      "\n\nRECEIPT\r\nreceipt-id:1\r\n\r\n\0\nMESSAGE\nk\\cé:a\\\\n\\nb\\cc\nk\\cé:second\ncontent-length:4\n\n",
    ),
    Buffer.from([0, 10, 255, 0, 0]),
    Buffer.from("ERROR\nmessage:x\n\nwords\0\n"),
  ])

  it("gives the same frames however the stream is cut", () => {
    const whole = parse(stream)
    expect(whole.map(({ command }) => command)).toEqual(["RECEIPT", "MESSAGE", "ERROR"])
    expect(whole[0]?.headers).toEqual({ "receipt-id": "1" })
    expect(whole[1]?.headers["k:é"]).toBe("a\\n\nb:c")
    expect([...(whole[1]?.body ?? [])]).toEqual([0, 10, 255, 0])
    expect(whole[2]?.body.toString()).toBe("words")
    for (let size = 1; size < stream.length; size++) {
      const chunks = Array.from({ length: Math.ceil(stream.length / size) }, (_, n) =>
        stream.subarray(n * size, (n + 1) * size),
      )
      const cut = parse(...chunks).map(({ command, headers, body }) => [command, { ...headers }, [...body]])
      expect(cut, `chunks of ${size}`).toEqual(
        whole.map(({ command, headers, body }) => [command, { ...headers }, [...body]]),
      )
    }
  })

  it("gives receipts of plain numbers as numbers, in their order among the frames, however the stream is cut", () => {
    const text =
      "RECEIPT\nreceipt-id:7\n\n\0\nRECEIPT\nreceipt-id:s-8\n\n\0RECEIPT\nreceipt-id:9\nx:y\n\n\0" +
      "ERROR\nmessage:m\n\n\0RECEIPT\nreceipt-id:123456789012345\n\n\0RECEIPT\r\nreceipt-id:10\r\n\r\n\0RECEIPT\nreceipt-id:\n\n\0"
    for (let size = 1; size <= text.length; size++) {
      const seen: Array<unknown> = []
      const feed = makeParser(
        ({ command, headers }) => seen.push(`${command} ${headers["receipt-id"]}`),
        (id) => seen.push(id),
      )
      for (let at = 0; at < text.length; at += size) feed(Buffer.from(text.slice(at, at + size)))
      const expected = [7, "RECEIPT s-8", 9, "ERROR undefined", 123456789012345, 10, "RECEIPT "]
      expect(seen, `chunks of ${size}`).toEqual(expected)
    }
  })

  it.each([
    ["a NUL within headers", "RECEIPT\nreceipt-id:1\0"],
    ["a header without a colon", "RECEIPT\nreceipt\n\n\0"],
    ["a length that is no number", "MESSAGE\ncontent-length:x\n\n\0"],
    ["a negative length", "MESSAGE\ncontent-length:-1\n\n\0"],
    ["an absurd length", "MESSAGE\ncontent-length:999999999\n\n\0"],
    ["a length that is too short", "MESSAGE\ncontent-length:1\n\nabc\0"],
    ["headers without end", "x".repeat(3 << 20)],
  ])("throws at %s", (_, text) => {
    expect(() => parse(text)).toThrow(ProtocolError)
  })

  it("does not touch Object's own names", () => {
    const [frame] = parse("MESSAGE\n__proto__:a\nconstructor:b\n\n\0")
    expect(Object.entries(frame?.headers ?? {})).toContainEqual(["__proto__", "a"])
    expect(frame?.headers["constructor"]).toBe("b")
  })
})

describe("encodeSend", () => {
  const headersOf = (message: Outgoing) => {
    const frame = encodeSend(message, 1, "amqp-message-id")
    return "words" in Object(frame) ? undefined : parse(frame as string | Buffer)[0]
  }

  it("is read back as it was", () => {
    const headers = { "a:b": "\r\n\\c\\", empty: "" }
    const text = headersOf(outgoing({ id: "i", destination: "/queue/a:b", headers, body: "é\ud800" }))
    expect(text).toMatchObject({
      command: "SEND",
      headers: {
        ...headers,
        destination: "/queue/a:b",
        receipt: "1",
        persistent: "true",
        "amqp-message-id": "i",
      },
    })
    expect(text?.body.toString()).toBe("é\ufffd")
    expect([...(headersOf(outgoing({ headers, body: Uint8Array.of(0, 1, 0) }))?.body ?? [])]).toEqual([
      0, 1, 0,
    ])
  })

  it("cannot carry a NUL in a header or destination", () => {
    expect(headersOf(outgoing({ headers: { "a\0": "b" } }))).toBeUndefined()
    expect(headersOf(outgoing({ destination: "/queue/\0" }))).toBeUndefined()
    expect(headersOf(outgoing({ body: "\0" }))).toBeDefined()
  })

  it("mixes up nothing of neighbours, and refuses a NUL beside what it has just said", () => {
    const headers = [{ a: "1", "b:c": "x\ny" }, { a: "1", "b:c": "x" }, { a: "2" }, { a: "1" }]
    const frames = headers.map((of, n) =>
      encodeSend(outgoing({ headers: of, destination: `/topic/${n % 2}` }), n, "id"),
    )
    const read = parse(...(frames as ReadonlyArray<string>))
    for (const [n, of] of headers.entries()) {
      expect(read[n]?.headers).toMatchObject({ ...of, destination: `/topic/${n % 2}`, receipt: String(n) })
      expect("b:c" in (read[n]?.headers ?? {})).toBe("b:c" in of)
    }
    expect(encodeSend(outgoing({ headers: { a: "1\0" } }), 1, "id")).toHaveProperty("scope", "message")
    expect(encodeSend(outgoing({ headers: { "a\0": "1" } }), 1, "id")).toHaveProperty("scope", "message")
    expect(encodeSend(outgoing({ headers: { a: "1" } }), 1, "id")).toBeDefined()
  })

  it("encodeFrame escapes", () => {
    expect(encodeFrame("ACK", { id: "a:b\n" })).toBe("ACK\nid:a\\cb\\n\n\n\0")
  })
})

describe("the meaning of an ERROR", () => {
  const error = (message: string, body: string): Frame => ({
    command: "ERROR",
    headers: { message },
    body: Buffer.from(body),
  })
  const named = (body: string, message = "") => {
    const meaning = meaningOf(error(message, body))
    if (meaning._tag !== "named") throw new Error(`${meaning._tag}: ${body}`)
    return meaning
  }
  const to = (destination: string) => outgoing({ destination })

  it.each([
    [
      "NOT_FOUND - no exchange 'x' in vhost '/'",
      ["/exchange/x/k", "/exchange/x"],
      ["/exchange/xy/k", "/topic/x", "/queue/x"],
    ],
    ["NOT_FOUND - no exchange 'a/b' in vhost '/'", ["/exchange/a%2Fb/k"], ["/exchange/a/b"]],
    ["NOT_FOUND - no queue 'q' in vhost '/'", ["/amq/queue/q", "/queue/q"], ["/queue/q2", "/topic/q"]],
    ["ACCESS_REFUSED - access to queue 'q' in vhost '/' refused for user 'u'", ["/queue/q"], ["/topic/q"]],
    [
      "ACCESS_REFUSED - access to exchange 'amq.topic' in vhost '/' refused for user 'u'",
      ["/topic/a", "/exchange/amq.topic/a"],
      ["/queue/a"],
    ],
    [
      "ACCESS_REFUSED - access to exchange 'amq.default' in vhost '/' refused for user 'u'",
      ["/queue/a", "/amq/queue/a"],
      ["/topic/a"],
    ],
    [
      "ACCESS_REFUSED - access to topic 'a' in exchange 'amq.topic' in vhost '/' refused for user 'u'",
      ["/topic/a"],
      ["/topic/b"],
    ],
    [
      "PRECONDITION_FAILED - inequivalent arg 'x-y' for queue 'q' in vhost '/': received none",
      ["/queue/q"],
      ["/queue/x-y"],
    ],
    ["'/nope/x' is not a valid destination.\nValid destination types are: …", ["/nope/x"], ["/nope/y"]],
    ["'/' is not a valid queue destination\n", ["/queue/"], ["/queue/a"]],
    ["Destination cannot be blank", [""], ["/queue/a"]],
  ])("%s", (body, those, others) => {
    const { matches, scope } = named(body)
    expect(scope).toBe("destination")
    for (const destination of those) expect(matches(to(destination)), destination).toBe(true)
    for (const destination of others) expect(matches(to(destination)), destination).toBe(false)
  })

  it("finds the message that is too large by its size in bytes", () => {
    const meaning = named("PRECONDITION_FAILED - message size 4 is larger than configured max size 3")
    expect(meaning).toMatchObject({ scope: "message", closes: true })
    expect(meaning.matches(outgoing({ body: "éé" }))).toBe(true)
    expect(meaning.matches(outgoing({ body: Uint8Array.of(1, 2, 3, 4) }))).toBe(true)
    expect(meaning.matches(outgoing({ body: "four!" }))).toBe(false)
  })

  it("tells outages and the unknown apart", () => {
    const closed = 'Reason: {shutdown,{connection_closing,{server_initiated_close,320,<<"bye">>}}}'
    expect(meaningOf(error("AMQP channel died", closed))._tag).toBe("outage")
    expect(meaningOf(error("Processing error", "Processing error"))._tag).toBe("unnamed")
  })

  it("puts words on one line", () => {
    expect(wordsOf(error("not_found", "NOT_FOUND - no exchange 'x'\n"))).toBe("NOT_FOUND - no exchange 'x'")
    expect(wordsOf(error("Invalid header", "'a' is\nnot"))).toBe("Invalid header: 'a' is not")
    expect(wordsOf(error("", ""))).toBe("ERROR without words")
  })
})

describe("profileOf", () => {
  it("knows RabbitMQ and ActiveMQ, and trusts no other", () => {
    expect(profileOf("RabbitMQ/4.1.0")).toMatchObject({ name: "rabbitmq", pipelined: true })
    expect(profileOf("ActiveMQ/5.17.2")).toMatchObject({ name: "activemq", pipelined: false, elects: true })
    for (const server of ["", "apache-activemq-artemis"]) {
      expect(profileOf(server)).toMatchObject({ name: "unknown", pipelined: false, idHeader: undefined })
    }
  })
})
