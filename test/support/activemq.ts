/**
 * A real ActiveMQ Classic for tests and benchmarks: the server named by `OUTBOX_TEST_ACTIVEMQ_URL`, else Debian's, which
 * is installed by `apt-get` where it is missing.
 */
import { type ChildProcess, spawn } from "node:child_process"
import {
  createWriteStream,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import { installPackage } from "./debian.ts"
import { freePorts, listening, signalGroup, watch } from "./server-process.ts"

export interface ActiveMqOptions {
  /** Options of its STOMP transport, such as `wireFormat.maxFrameSize=1000000`. A server given by URL ignores them. */
  readonly config?: ReadonlyArray<string>
}

export interface ActiveMq {
  /** `stomp://127.0.0.1:PORT` */
  readonly stompUrl: string
  /** Stops the server politely and keeps its data. */
  readonly stop: () => Promise<void>
  /** Starts a stopped or killed server again, on its port and its data. */
  readonly start: () => Promise<void>
  /** SIGKILL, as in a power failure. */
  readonly kill: () => Promise<void>
  /** Removes the data of a stopped or killed server. */
  readonly wipe: () => void
  /** Stops the server and removes everything it wrote. */
  readonly remove: () => Promise<void>
}

const jars = "/usr/share/activemq/lib"

/** Starts an ActiveMQ with persistence and STOMP on a free port of 127.0.0.1; several may run at once. */
export const startActiveMq = async (options: ActiveMqOptions = {}): Promise<ActiveMq> => {
  const given = process.env["OUTBOX_TEST_ACTIVEMQ_URL"]
  if (given !== undefined && given !== "") return existing(given)
  if (!existsSync(jars)) await install()
  return startLocal(options)
}

const existing = (stompUrl: string): ActiveMq => {
  const no = (what: string) => (): never => {
    throw new Error(`cannot ${what} the ActiveMQ given by OUTBOX_TEST_ACTIVEMQ_URL`)
  }
  return {
    stompUrl,
    stop: async () => no("stop")(),
    start: async () => no("start")(),
    kill: async () => no("kill")(),
    wipe: no("wipe"),
    remove: async () => {},
  }
}

const install = async () => {
  if ((await installPackage("activemq")) && existsSync(jars)) return
  throw new Error(
    "no ActiveMQ Classic: install activemq (Debian, Ubuntu: apt-get install activemq), " +
      "or set OUTBOX_TEST_ACTIVEMQ_URL=stomp://user:password@host:61613",
  )
}

const startLocal = async ({ config = [] }: ActiveMqOptions): Promise<ActiveMq> => {
  const [port] = (await freePorts(1)) as [number]
  const home = mkdtempSync(join(tmpdir(), "outbox-activemq-"))
  const [data, log] = [join(home, "data"), join(home, "log")]
  const query = config.length === 0 ? "" : `?${config.join("&")}`
  const broker =
    `broker:(stomp://127.0.0.1:${port}${query})?brokerName=outbox&persistent=true&useJmx=false` +
    `&schedulerSupport=false&dataDirectory=${data}`
  const unwatch = watch(home)
  let server: ChildProcess | undefined

  const start = async () => {
    mkdirSync(data, { recursive: true })
    const child = spawn(
      "java",
      [
        "-Xmx256m",
        "-XX:+UseSerialGC",
        "-cp",
        `${jars}/*:${jars}/optional/*`,
        "org.apache.activemq.console.Main",
        "start",
        broker,
      ],
      { cwd: home, stdio: ["ignore", "pipe", "pipe"], detached: true },
    )
    server = child
    const output = createWriteStream(log, { flags: "a" })
    child.stdout?.pipe(output)
    child.stderr?.pipe(output)
    for (const stream of [child.stdout, child.stderr]) (stream as unknown as { unref: () => void }).unref()
    child.unref()
    let exited = false
    child.once("error", () => {
      exited = true
    })
    child.once("exit", () => {
      exited = true
    })
    if (child.pid !== undefined) writeFileSync(join(home, "server.pgid"), String(child.pid))
    for (let tries = 0; tries < 600 && !exited; tries++) {
      if (await listening(port)) return
      await sleep(50)
    }
    throw new Error(
      `ActiveMQ did not start:\n${existsSync(log) ? readFileSync(log, "utf8").slice(-4000) : ""}`,
    )
  }
  const end = async (signal: NodeJS.Signals) => {
    const child = server
    server = undefined
    if (child?.pid === undefined || child.exitCode !== null || child.signalCode !== null) return
    const ended = new Promise((resolve) => child.once("exit", resolve))
    signalGroup(child.pid, signal)
    const late = setTimeout(() => signalGroup(child.pid as number, "SIGKILL"), 15_000)
    await ended
    clearTimeout(late)
    rmSync(join(home, "server.pgid"), { force: true })
  }
  const remove = async () => {
    await end("SIGKILL")
    unwatch()
    rmSync(home, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 })
  }
  try {
    await start()
  } catch (cause) {
    await remove()
    throw cause
  }
  return {
    stompUrl: `stomp://127.0.0.1:${port}`,
    stop: () => end("SIGTERM"),
    start,
    kill: () => end("SIGKILL"),
    wipe: () => rmSync(data, { recursive: true, force: true }),
    remove,
  }
}
