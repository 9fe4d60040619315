/**
 * How ActiveMQ Classic confirms persistent messages fastest: a receipt for each, against transactions with a receipt on
 * their COMMIT, and against a receipt on the last of a run, which says nothing of those before it.
 */
import { connect } from "node:net"
import { startActiveMq } from "../test/support/activemq.ts"
import { compare } from "./support/compare.ts"
import type { Question } from "./support/question.ts"
import { brokerVersion } from "./support/servers.ts"

const BODY = "x".repeat(200)
const WINDOW = 1000

/** A transaction has a receipt on its COMMIT, and one with `receipts` one on every SEND, too. */
type Way = "receipt each" | "receipt on last" | "transaction" | "transaction with receipts"

export const question: Question = {
  asks: "How does ActiveMQ Classic confirm persistent messages fastest?",
  minutes: 10,
  run: async (lab) => {
    const count = lab.once ? 1000 : 5_000
    const broker = await startActiveMq()
    let queues = 0
    // A queue of its own each time: a deep one is slower.
    const publishAll = (way: Way, size: number, kind: string) =>
      publish(broker.stompUrl, `/${kind}/bench-${++queues}`, count, way, size)
    try {
      const version = await brokerVersion(broker.stompUrl)
      for (const kind of ["queue", "topic"])
        for (const [way, size] of [
          ["transaction with receipts", 100],
          ["transaction", 100],
          ["transaction", 500],
          ["receipt on last", 250],
        ] as const) {
          const name = `${kind}, ${way}, ${size} each`
          await lab.measure(name, async () => ({
            ...(await compare(
              lab,
              { label: name },
              () => publishAll(way, size, kind),
              () => publishAll("receipt each", 1, kind),
            )),
            settings: {
              node: process.version,
              broker: version,
              messages: count,
              bodyBytes: BODY.length,
              window: WINDOW,
              size,
              baseline: "receipt each",
            },
          }))
        }
    } finally {
      await broker.remove()
    }
  },
}

/** Sends everything, at most `WINDOW` unconfirmed, and gives the rate per second. `size`: messages that a receipt covers. */
const publish = async (
  url: string,
  destination: string,
  count: number,
  way: Way,
  size: number,
): Promise<number> => {
  const { hostname, port } = new URL(url)
  const socket = connect({ host: hostname, port: Number(port) })
  socket.setNoDelay(true)
  const within = way === "transaction" || way === "transaction with receipts"
  const covers = way === "receipt each" ? 1 : size
  const head = `SEND\ndestination:${destination}\npersistent:true\ncontent-length:${BODY.length}\n`
  const run = (from: number) => {
    const last = Math.min(from + covers, count)
    const frames = Array.from({ length: last - from }, (_, n) => {
      const own = within ? way === "transaction with receipts" : from + n === last - 1
      const receipt = own ? `receipt:${within ? "m" : last}\n` : ""
      return `${head}${within ? `transaction:${last}\n` : ""}${receipt}\n${BODY}\0`
    }).join("")
    return within
      ? `BEGIN\ntransaction:${last}\n\n\0${frames}COMMIT\ntransaction:${last}\nreceipt:${last}\n\n\0`
      : frames
  }
  const rate = await new Promise<number>((resolve, reject) => {
    let sent = 0
    let confirmed = 0
    let started = 0
    let rest = ""
    const fill = () => {
      let text = ""
      while (sent < count && sent - confirmed + covers <= WINDOW) {
        text += run(sent)
        sent = Math.min(sent + covers, count)
      }
      if (text !== "") socket.write(text)
    }
    socket.once("error", reject)
    socket.on("data", (bytes) => {
      const frames = (rest + bytes.toString()).split("\0")
      rest = frames.pop() as string
      for (const frame of frames) {
        const command = frame.trimStart().split("\n", 1)[0]
        if (command === "CONNECTED") started = performance.now()
        else if (frame.includes("receipt-id:m")) continue
        else if (command === "RECEIPT") confirmed += Math.min(covers, count - confirmed)
        else return reject(new Error(frame))
      }
      if (confirmed >= count) resolve((count / (performance.now() - started)) * 1000)
      else fill()
    })
    socket.write("CONNECT\naccept-version:1.2\nhost:/\nheart-beat:0,0\n\n\0")
  })
  socket.destroy()
  return rate
}
