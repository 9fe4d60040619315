/** A real PgBouncer before a PostgreSQL of ours: Debian's, which is installed by `apt-get` where it is missing. */
import { type ChildProcess, spawn } from "node:child_process"
import { chmodSync, existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import { installPackage } from "./debian.ts"
import { freePorts, listening, signalGroup, watch } from "./server-process.ts"

export interface PgBouncerOptions {
  /** The PostgreSQL behind it, as its clients would reach it; any database of the server can be asked for. */
  readonly url: string
  /** What a client keeps of a server connection: it until it leaves, until a transaction ends, until a statement does. */
  readonly mode: "session" | "transaction" | "statement"
  /** Server connections for a database and user. Default 20. */
  readonly poolSize?: number
  /** Passwords of further roles that may connect. The URL's own may. */
  readonly users?: Readonly<Record<string, string>>
  /** Further lines of its section `[pgbouncer]`. */
  readonly config?: ReadonlyArray<string>
}

export interface PgBouncer {
  /** The given URL, with the port of PgBouncer. */
  readonly url: string
  readonly port: number
  /** Drops every client, as its end does; a killed one has flushed nothing either. */
  readonly stop: () => Promise<void>
  /** Starts a stopped one again on its port. */
  readonly start: () => Promise<void>
  /** Stops it and removes its folder. */
  readonly remove: () => Promise<void>
}

const binaries = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer", "/usr/local/bin/pgbouncer"]
const findBinary = () => binaries.find((file) => existsSync(file))

/** Starts a PgBouncer on a free port of 127.0.0.1; several may run at once. */
export const startPgBouncer = async (options: PgBouncerOptions): Promise<PgBouncer> => {
  if (findBinary() === undefined) await installPackage("pgbouncer")
  const binary = findBinary()
  if (binary === undefined)
    throw new Error("no PgBouncer: install pgbouncer (Debian, Ubuntu: apt-get install pgbouncer)")
  const [port] = (await freePorts(1)) as [number]
  const home = mkdtempSync(join(tmpdir(), "outbox-pgbouncer-"))
  const server = new URL(options.url)
  const users = {
    ...options.users,
    [decodeURIComponent(server.username)]: decodeURIComponent(server.password),
  }
  const file = join(home, "pgbouncer.ini")
  writeFileSync(
    join(home, "users"),
    Object.entries(users)
      .map(([name, password]) => `${quoted(name)} ${quoted(password)}\n`)
      .join(""),
  )
  writeFileSync(
    file,
    [
      "[databases]",
      `* = host=${server.hostname} port=${server.port || "5432"}`,
      "[pgbouncer]",
      "listen_addr = 127.0.0.1",
      `listen_port = ${port}`,
      "unix_socket_dir =",
      "auth_type = scram-sha-256",
      `auth_file = ${join(home, "users")}`,
      `pool_mode = ${options.mode}`,
      `default_pool_size = ${options.poolSize ?? 20}`,
      "max_client_conn = 1000",
      ...(options.config ?? []),
      "",
    ].join("\n"),
  )
  // It refuses to be root and becomes nobody, who reads these once more when told to reload.
  chmodSync(home, 0o755)
  const unwatch = watch(home)
  const user = process.getuid?.() === 0 ? ["-u", "nobody"] : []
  let running: ChildProcess | undefined
  let said = ""

  const start = async () => {
    const child = spawn(binary, [...user, file], {
      cwd: home,
      stdio: ["ignore", "ignore", "pipe"],
      detached: true,
    })
    running = child
    let exited = false
    child.once("error", () => {
      exited = true
    })
    child.once("exit", () => {
      exited = true
    })
    child.stderr.on("data", (bytes: Buffer) => {
      said = (said + bytes.toString()).slice(-4000)
    })
    ;(child.stderr as unknown as { unref: () => void }).unref()
    child.unref()
    if (child.pid !== undefined) writeFileSync(join(home, "server.pgid"), String(child.pid))
    for (let tries = 0; tries < 200 && !exited; tries++) {
      if (await listening(port)) return
      await sleep(50)
    }
    throw new Error(`PgBouncer did not start:\n${said}`)
  }
  const stop = async () => {
    const child = running
    running = undefined
    if (child?.pid === undefined || child.exitCode !== null || child.signalCode !== null) return
    const ended = new Promise((resolve) => child.once("exit", resolve))
    // SIGINT would wait for its clients.
    signalGroup(child.pid, "SIGTERM")
    const late = setTimeout(() => signalGroup(child.pid as number, "SIGKILL"), 5_000)
    await ended
    clearTimeout(late)
    rmSync(join(home, "server.pgid"), { force: true })
  }
  const remove = async () => {
    await stop()
    unwatch()
    rmSync(home, { recursive: true, force: true })
  }
  try {
    await start()
  } catch (cause) {
    await remove()
    throw cause
  }
  const url = new URL(options.url)
  url.hostname = "127.0.0.1"
  url.port = String(port)
  return { url: url.href, port, stop, start, remove }
}

const quoted = (text: string): string => `"${text.replaceAll('"', '""')}"`
