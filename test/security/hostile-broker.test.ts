/** A broker that is mad or bad: whatever it sends, a connection ends in words or goes on, and nothing grows without bound. */
import { createServer, type Socket } from "node:net"
import { Effect } from "effect"
import { afterEach, assert, describe, it } from "vitest"
import type { Incoming } from "../../src/broker/broker.ts"
import { type Frame, makeParser, ProtocolError } from "../../src/broker/stomp/parser.ts"
import { meaningOf, wordsOf } from "../../src/broker/stomp/refusal.ts"
import { layerStomp } from "../../src/broker/stomp/stomp.ts"
import { deadLetterOf } from "../../src/consumer/dead-letter.ts"
import { decoder, Undecodable } from "../../src/consumer/decode.ts"
import { identify } from "../../src/consumer/identity.ts"
import { settingsOf } from "../../src/consumer/options.ts"
import { connector, outgoing } from "../suites/broker.ts"
import { random } from "../support/random.ts"
import { eventually } from "../support/relay.ts"

const seed = Number(process.env["OUTBOX_TEST_SEED"] ?? Date.now() % 1_000_000)
const CONNECTED = "CONNECTED\nversion:1.2\nheart-beat:0,0\nserver:RabbitMQ/3.10.8\n\n\0\n"
const MEGA = 1 << 20

const cleanups: Array<() => Promise<unknown>> = []
afterEach(async () => {
  for (const clean of cleanups.splice(0).reverse()) await clean()
})

/** A broker that answers CONNECT, and then says what the test says. */
const hostile = async (greeting = CONNECTED) => {
  const peers = new Set<Socket>()
  let received = ""
  const server = createServer((socket) => {
    peers.add(socket)
    socket.on("error", () => {})
    socket.on("data", (bytes) => {
      if (received === "") socket.write(greeting)
      received += bytes.toString("latin1")
    })
  })
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  const { port } = server.address() as { port: number }
  const { open, closeAll } = connector(
    layerStomp({ url: `stomp://u:p@127.0.0.1:${port}`, heartbeat: 0, connectTimeout: "2 seconds" }),
  )
  cleanups.push(async () => {
    for (const peer of peers) peer.destroy()
    server.close()
  }, closeAll)
  return {
    open,
    received: () => received,
    say: (bytes: string | Uint8Array) => {
      for (const peer of peers) peer.write(bytes)
    },
  }
}

const samples = [
  "MESSAGE\nsubscription:s-1\nmessage-id:1\nack:1\ndestination:/queue/q\ncontent-length:4\n\nbody\0\n",
  "RECEIPT\nreceipt-id:1\n\n\0",
  "ERROR\nmessage:not_found\nreceipt-id:1\n\nNOT_FOUND - no exchange 'x' in vhost '/'\0",
  "MESSAGE\nsubscription:s-1\nmessage-id:2\n\nwithout a length\0\r\n\n",
  "CONNECTED\nversion:1.2\n\n\0",
  "\n\n\r\n",
]
const splinters = [
  "\0",
  "\n",
  "\r",
  ":",
  "\\",
  "\\t",
  "content-length:",
  "content-length:9999999999\n",
  "\n\n",
  "\xff",
  "__proto__:x\n",
]

/** Frames, some of whose bytes are changed, lost, doubled or strange. */
const mutated = ({ below, chance }: ReturnType<typeof random>): Buffer => {
  let bytes = Buffer.from(
    Array.from({ length: 1 + below(5) }, () => samples[below(samples.length)]).join(""),
    "latin1",
  )
  for (let times = below(4); times > 0; times--) {
    const at = below(bytes.length + 1)
    const rest = bytes.subarray(chance(0.5) ? at : Math.min(bytes.length, at + below(20)))
    const splinter = chance(0.3)
      ? Buffer.from([below(256)])
      : Buffer.from(splinters[below(splinters.length)] as string, "latin1")
    bytes = Buffer.concat([bytes.subarray(0, at), splinter, rest])
  }
  return bytes
}

const framesOf = (bytes: Buffer, sizes: () => number) => {
  const frames: Array<Frame> = []
  const feed = makeParser((frame) => frames.push(frame))
  let fault: string | undefined
  try {
    for (let at = 0; at < bytes.length; ) {
      const size = sizes()
      feed(bytes.subarray(at, at + size))
      at += size
    }
  } catch (error) {
    if (!(error instanceof ProtocolError)) throw error
    fault = error.message
  }
  return {
    fault,
    frames: frames.map(({ command, headers, body }) => [
      command,
      Object.entries(headers),
      body.toString("latin1"),
    ]),
  }
}

describe("the parser", () => {
  it(`gives frames or a ProtocolError, the same however the bytes are cut (seed ${seed})`, () => {
    const until = performance.now() + 4000
    let runs = 0
    for (; performance.now() < until; runs++) {
      const generator = random(seed + runs)
      const bytes = mutated(generator)
      const whole = framesOf(bytes, () => bytes.length)
      const cut = framesOf(bytes, () => 1 + generator.below(9))
      assert.deepStrictEqual(cut, whole, `seed ${seed + runs}: ${JSON.stringify(bytes.toString("latin1"))}`)
    }
    assert.isAbove(runs, 200)
  })

  /** Feeds pieces, and gives the milliseconds that they took and the bytes that stay. */
  const cost = (first: string, piece: Buffer, pieces: number) => {
    const feed = makeParser(() => {})
    const began = performance.now()
    feed(Buffer.from(first))
    for (let n = 0; n < pieces; n++) feed(piece)
    return performance.now() - began
  }

  it.each([
    ["headers", "MESSAGE\n", Buffer.from("a:b\n"), (2 * MEGA) / 8],
    ["a body without a length", "MESSAGE\n\n", Buffer.alloc(64 << 10, "x"), 1000],
    ["a body behind large headers", `MESSAGE\nlong:${"x".repeat(MEGA)}\n\n`, Buffer.alloc(1000, "x"), 10_000],
    ["a body with a length", "MESSAGE\ncontent-length:200000000\n\n", Buffer.alloc(16 << 10, "x"), 4000],
  ])("looks at each byte of %s once", (_, first, piece, pieces) => {
    assert.isBelow(cost(first, piece, pieces), 4000)
  })

  it("takes no length on trust", () => {
    const before = process.memoryUsage()
    for (let n = 0; n < 20; n++) makeParser(() => {})(Buffer.from("MESSAGE\ncontent-length:200000000\n\nx"))
    const { arrayBuffers } = process.memoryUsage()
    assert.isBelow(arrayBuffers - before.arrayBuffers, 50 * MEGA)
    assert.throws(
      () => makeParser(() => {})(Buffer.from("MESSAGE\ncontent-length:10000000000\n\nx")),
      ProtocolError,
    )
  })
})

it("an ERROR of megabytes is read in a moment", () => {
  const began = performance.now()
  for (const piece of [
    "NOT_FOUND - no exchange '",
    "' is not a valid ",
    "'",
    "inequivalent arg '",
    "access to topic '",
    "\n\tat ",
  ])
    for (const where of ["message", "body"]) {
      const text = piece.repeat((4 * MEGA) / piece.length)
      const frame: Frame = {
        command: "ERROR",
        headers: { message: where === "message" ? text : "" },
        body: Buffer.from(where === "body" ? text : ""),
      }
      assert.isAtMost(wordsOf(frame).length, 1000)
      meaningOf(frame)
    }
  assert.isBelow(performance.now() - began, 8000)
})

describe("a connection", () => {
  it(`ends or goes on, and takes nothing down, whatever it is sent (seed ${seed})`, async () => {
    const until = performance.now() + 4000
    for (let run = 0; performance.now() < until; run++) {
      const generator = random(seed + run)
      const broker = await hostile(generator.chance(0.2) ? mutated(generator).toString("latin1") : CONNECTED)
      const opened = await broker.open().catch((error: Error) => error)
      if (opened instanceof Error) {
        assert.propertyVal(opened, "_tag", "BrokerError")
      } else {
        const settled: string[] = []
        opened.connection.send([outgoing(), outgoing()], (_, { _tag }) => settled.push(_tag))
        for (let n = 0; n < 5; n++) broker.say(mutated(generator))
        await new Promise((resolve) => setTimeout(resolve, 10))
        opened.connection.destroy()
        await Effect.runPromise(opened.connection.ended)
        assert.lengthOf(settled, 2)
      }
      for (const clean of cleanups.splice(0).reverse()) await clean()
    }
  })

  it.each([
    ["headers without end", "MESSAGE\n", "x".repeat(MEGA), /headers of more than 2097152 bytes/],
    ["10 GB", "MESSAGE\ncontent-length:10000000000\n\n", "x", /content-length/],
  ])("that announces %s ends with words", async (_, first, piece, words) => {
    const broker = await hostile()
    const { connection } = await broker.open()
    broker.say(first)
    for (let n = 0; n < 4; n++) broker.say(piece)
    const end = await Effect.runPromise(connection.ended)
    assert.strictEqual(end.reason, "error")
    assert.match(end.words, words)
  })

  it("hands on what names a subscription, and answers with no frame of the broker's making", async () => {
    const broker = await hostile()
    const { connection } = await broker.open()
    const messages: Array<Incoming> = []
    const subscribing = Effect.runFork(
      Effect.scoped(
        Effect.andThen(
          connection.subscribe({ destination: "/queue/q" }, (message) => messages.push(message)),
          Effect.never,
        ),
      ),
    )
    const id = await eventually(() => {
      const found = /\nid:(s-\S+)\n/.exec(broker.received())?.[1]
      assert.isDefined(found)
      return found
    })
    broker.say(`RECEIPT\nreceipt-id:${id}\n\n\0`)
    const ack = "1\\n\\nSEND\\ndestination\\c/queue/x"
    broker.say(
      [
        `MESSAGE\nsubscription:${id}\n\nno ids at all\0`,
        `MESSAGE\nsubscription:${id}\nack:${ack}\n\nan id of lines\0`,
        `MESSAGE\nsubscription:${id}\nack:1\nack:2\nmessage-id:3\nmessage-id:4\n\ntwo of each\0`,
        `MESSAGE\nsubscription:${id}\nack:5\nlong:${"x".repeat(MEGA)}\n\nlong\0`,
        `MESSAGE\nsubscription:${id}\nack:6\n__proto__:a\nconstructor:b\noutbox-message-id:m\n\nnames\0`,
        "MESSAGE\nsubscription:nobody's\nack:7\n\nstrange\0MESSAGE\nack:8\n\nof none\0",
      ].join(""),
    )
    await eventually(() => assert.lengthOf(messages, 5))
    for (const message of messages) {
      message.ack()
      message.ack()
    }
    await eventually(() => assert.include(broker.received(), "ACK\nid:6\n"))
    const acks = [...broker.received().matchAll(/ACK\nid:(.*)\n\n\0/g)].map(([, of]) => of)
    assert.deepStrictEqual(acks, ["", ack, "1", "5", "6"])
    assert.notInclude(broker.received(), "\nSEND\n")
    subscribing.interruptUnsafe()

    const settings = settingsOf({ consumer: "c" }, "/queue/q")
    const { arrival } = identify(messages[4] as Incoming, settings)
    const copied = JSON.parse(deadLetterOf(arrival, settings, "/queue/dead", 1, "why").headers) as object
    assert.deepInclude(Object.entries(copied), ["__proto__", "a"])
    assert.isUndefined(({} as { a?: unknown }).a)
  })
})

describe("a body", () => {
  const json = { "content-type": "application/json" }
  const decode = decoder(undefined)

  it("of 10,000 levels is decoded, of many more it is decoded or said to be no JSON", () => {
    const deep = (levels: number) => Buffer.from("[".repeat(levels) + "]".repeat(levels))
    let value = decode(deep(10_000), json)
    let levels = 0
    for (; Array.isArray(value); value = value[0]) levels++
    assert.strictEqual(levels, 10_000)
    for (const body of [deep(200_000), Buffer.from('{"a":'.repeat(200_000))])
      try {
        decode(body, json)
      } catch (error) {
        assert.instanceOf(error, Undecodable)
      }
  })

  it("pollutes nothing", () => {
    const value = decode(
      Buffer.from('{"__proto__":{"polluted":1},"constructor":{"prototype":{"polluted":1}}}'),
      json,
    )
    assert.isUndefined(({} as { polluted?: unknown }).polluted)
    assert.deepStrictEqual(Object.keys(value as object), ["__proto__", "constructor"])
  })

  it("of any bytes is a value, or undecodable", () => {
    const every = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte))
    assert.deepStrictEqual(decode(every, { "content-type": "application/octet-stream" }), every)
    for (const type of ["application/json", "text/plain"])
      assert.throws(() => decode(every, { "content-type": type }), Undecodable, "no UTF-8")
  })
})
