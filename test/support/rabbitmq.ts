/**
 * A real RabbitMQ for tests, benchmarks and examples.
 *
 * Taken from, in this order: the server named by `OUTBOX_TEST_RABBITMQ_URL`, a local binary, Docker, `apt-get`.
 */
import { type ChildProcess, execFile, execFileSync, spawn } from "node:child_process"
import { randomBytes } from "node:crypto"
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import { promisify } from "node:util"
import { installPackage } from "./debian.ts"
import { freePorts, listening, signalGroup, watch } from "./server-process.ts"

const run = promisify(execFile)

export interface RabbitOptions {
  /** Further lines of `rabbitmq.conf`. A server given by URL ignores them. */
  readonly config?: ReadonlyArray<string>
}

export interface Rabbit {
  /** `stomp://guest:guest@127.0.0.1:PORT` */
  readonly stompUrl: string
  /** `ws://guest:guest@127.0.0.1:PORT/ws` */
  readonly wsUrl: string
  readonly managementUrl: string
  readonly user: string
  readonly password: string
  /** Stops the server politely and keeps its data. */
  readonly stop: () => Promise<void>
  /** Starts a stopped or killed server again, on its ports and its data. */
  readonly start: () => Promise<void>
  /** SIGKILL, as in a power failure. */
  readonly kill: () => Promise<void>
  /** Loses everything that it holds, in a crash, and is back. */
  readonly wipe: () => Promise<void>
  /** Runs `rabbitmqctl` with these arguments and returns what it printed. */
  readonly ctl: (...args: ReadonlyArray<string>) => Promise<string>
  /** Stops the server and removes everything it wrote. */
  readonly remove: () => Promise<void>
}

const scripts = ["/usr/lib/rabbitmq/bin", "/usr/local/sbin", "/opt/homebrew/sbin"]
const user = "guest"
const password = "guest"

/** Starts a RabbitMQ with STOMP, Web-STOMP and management on free ports of 127.0.0.1; several may run at once. */
export const startRabbit = async (options: RabbitOptions = {}): Promise<Rabbit> => {
  const given = process.env["OUTBOX_TEST_RABBITMQ_URL"]
  if (given !== undefined && given !== "") return existing(given)
  const local = findScripts()
  if (local !== undefined) return startLocal(local, options)
  if (await answers("docker", "version")) return startDocker(options)
  if (await installPackage("rabbitmq-server")) {
    const installed = findScripts()
    if (installed !== undefined) return startLocal(installed, options)
  }
  throw new Error(
    "no RabbitMQ: install rabbitmq-server (Debian, Ubuntu: apt-get install rabbitmq-server), start Docker, " +
      "or set OUTBOX_TEST_RABBITMQ_URL=stomp://user:password@host:61613",
  )
}

const findScripts = () => scripts.find((folder) => existsSync(join(folder, "rabbitmq-server")))

const answers = (command: string, ...args: ReadonlyArray<string>) =>
  run(command, [...args], { timeout: 10_000 }).then(
    () => true,
    () => false,
  )

const existing = (given: string): Rabbit => {
  const url = new URL(given.replace(/^stomp:/, "http:"))
  const no = (what: string) => async (): Promise<never> => {
    throw new Error(`cannot ${what} the RabbitMQ given by OUTBOX_TEST_RABBITMQ_URL`)
  }
  const login = `${url.username || user}:${url.password || password}`
  return {
    stompUrl: `stomp://${login}@${url.hostname}:${url.port || "61613"}`,
    wsUrl: process.env["OUTBOX_TEST_RABBITMQ_WS_URL"] ?? `ws://${login}@${url.hostname}:15674/ws`,
    managementUrl: process.env["OUTBOX_TEST_RABBITMQ_MANAGEMENT_URL"] ?? `http://${url.hostname}:15672`,
    user: decodeURIComponent(url.username || user),
    password: decodeURIComponent(url.password || password),
    stop: no("stop"),
    start: no("start"),
    kill: no("kill"),
    wipe: no("wipe"),
    ctl: no("control"),
    remove: async () => {},
  }
}

const urls = (stomp: number, ws: number, management: number) => ({
  stompUrl: `stomp://${user}:${password}@127.0.0.1:${stomp}`,
  wsUrl: `ws://${user}:${password}@127.0.0.1:${ws}/ws`,
  managementUrl: `http://127.0.0.1:${management}`,
  user,
  password,
})

const startLocal = async (folder: string, options: RabbitOptions): Promise<Rabbit> => {
  const [stomp, ws, management, dist, epmdPort] = (await freePorts(5)) as [
    number,
    number,
    number,
    number,
    number,
  ]
  const home = mkdtempSync(join(tmpdir(), "outbox-rabbitmq-"))
  const node = `outbox-${randomBytes(4).toString("hex")}@localhost`
  for (const name of ["data", "log"]) mkdirSync(join(home, name))
  writeFileSync(join(home, "plugins"), "[rabbitmq_stomp,rabbitmq_web_stomp,rabbitmq_management].\n")
  writeFileSync(join(home, ".erlang.cookie"), randomBytes(16).toString("hex"), { mode: 0o400 })
  writeFileSync(
    join(home, "rabbitmq.conf"),
    [
      "listeners.tcp = none",
      `stomp.listeners.tcp.1 = 127.0.0.1:${stomp}`,
      "web_stomp.tcp.ip = 127.0.0.1",
      `web_stomp.tcp.port = ${ws}`,
      "management.tcp.ip = 127.0.0.1",
      `management.tcp.port = ${management}`,
      "disk_free_limit.absolute = 50MB",
      "log.file.level = warning",
      "log.console = false",
      ...(options.config ?? []),
      "",
    ].join("\n"),
  )
  const env = {
    PATH: `/usr/sbin:/sbin:${process.env["PATH"] ?? "/usr/bin:/bin"}`,
    LANG: "C.UTF-8",
    HOME: home,
    // A private epmd: the usual one would outlive the server and be shared with strangers.
    ERL_EPMD_PORT: String(epmdPort),
    ERL_EPMD_ADDRESS: "127.0.0.1",
    RABBITMQ_NODENAME: node,
    RABBITMQ_DIST_PORT: String(dist),
    RABBITMQ_MNESIA_BASE: join(home, "data"),
    RABBITMQ_LOG_BASE: join(home, "log"),
    RABBITMQ_PID_FILE: join(home, "pid"),
    RABBITMQ_ENABLED_PLUGINS_FILE: join(home, "plugins"),
    RABBITMQ_CONFIG_FILE: join(home, "rabbitmq.conf"),
    RABBITMQ_CONF_ENV_FILE: join(home, "none"),
    RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS: `-kernel inet_dist_use_interface {127,0,0,1} +sbwt none +sbwtdcpu none`,
  }
  const unwatch = watch(home)

  const launch = (name: string, command: string, args: ReadonlyArray<string>) => {
    const child = spawn(command, args, { env, cwd: home, stdio: "ignore", detached: true })
    child.unref()
    if (child.pid !== undefined) writeFileSync(join(home, `${name}.pgid`), String(child.pid))
    return child
  }
  const epmd = launch("epmd", "epmd", ["-port", String(epmdPort), "-address", "127.0.0.1"])
  let server: ChildProcess | undefined

  const ctl = (...args: ReadonlyArray<string>) =>
    run(join(folder, "rabbitmqctl"), ["-q", "-n", node, ...args], { env, cwd: home }).then(
      ({ stdout }) => stdout,
    )

  const start = async () => {
    const child = launch("server", join(folder, "rabbitmq-server"), [])
    server = child
    let exited = false
    child.once("exit", () => {
      exited = true
    })
    for (let tries = 0; tries < 600; tries++) {
      if (exited) break
      if ((await listening(stomp)) && (await listening(ws)) && (await listening(management))) return
      await sleep(100)
    }
    throw new Error(`RabbitMQ did not start:\n${serverLog()}`)
  }
  const serverLog = () => {
    const file = join(home, "log", `${node}.log`)
    return existsSync(file) ? readFileSync(file, "utf8").slice(-4000) : "(no log)"
  }
  const killGroup = async (signal: NodeJS.Signals) => {
    const child = server
    if (child?.pid === undefined || child.exitCode !== null || child.signalCode !== null) return
    const ended = new Promise((resolve) => child.once("exit", resolve))
    signalGroup(child.pid, signal)
    const late = setTimeout(() => signalGroup(child.pid as number, "SIGKILL"), 15_000)
    await ended
    clearTimeout(late)
    // Helpers of the virtual machine (inet_gethost, erl_child_setup) end by themselves, or here.
    signalGroup(child.pid, "SIGKILL")
    // A large process takes its time to die, and its ports and its name with it.
    for (let tries = 0; tries < 200; tries++) {
      if (!(await listening(stomp)) && !(await listening(ws)) && !(await listening(management))) break
      await sleep(50)
    }
    server = undefined
    rmSync(join(home, "server.pgid"), { force: true })
  }
  const remove = async () => {
    await killGroup("SIGKILL")
    if (epmd.pid !== undefined) signalGroup(epmd.pid, "SIGKILL")
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
    ...urls(stomp, ws, management),
    stop: () => killGroup("SIGTERM"),
    start,
    kill: () => killGroup("SIGKILL"),
    wipe: async () => {
      await killGroup("SIGKILL")
      rmSync(join(home, "data"), { recursive: true, force: true, maxRetries: 5, retryDelay: 100 })
      mkdirSync(join(home, "data"))
      await start()
    },
    ctl,
    remove,
  }
}

const startDocker = async (options: RabbitOptions): Promise<Rabbit> => {
  const [stomp, ws, management] = (await freePorts(3)) as [number, number, number]
  const name = `outbox-rabbitmq-${randomBytes(4).toString("hex")}`
  const docker = (...args: ReadonlyArray<string>) => run("docker", [...args]).then(({ stdout }) => stdout)
  const config = ["loopback_users = none", "disk_free_limit.absolute = 50MB", ...(options.config ?? [])].join(
    "\\n",
  )
  const ports = [`${stomp}:61613`, `${ws}:15674`, `${management}:15672`].flatMap((p) => [
    "-p",
    `127.0.0.1:${p}`,
  ])
  await docker(
    ...["create", "--name", name, ...ports, "--entrypoint", "sh", "rabbitmq:4-management", "-c"],
    `printf '${config}\\n' > /etc/rabbitmq/conf.d/90-outbox.conf; ` +
      "rabbitmq-plugins enable --offline rabbitmq_stomp rabbitmq_web_stomp; exec docker-entrypoint.sh rabbitmq-server",
  )
  const removeNow = () => execFileSync("docker", ["rm", "-f", "-v", name], { stdio: "ignore" })
  process.once("exit", removeNow)
  const start = async () => {
    await docker("start", name)
    for (let tries = 0; tries < 600; tries++) {
      // The proxy of Docker accepts before the server does.
      if (await answers("docker", "exec", name, "rabbitmq-diagnostics", "-q", "check_port_listener", "61613"))
        return
      await sleep(200)
    }
    throw new Error(`RabbitMQ in Docker did not start:\n${(await docker("logs", name)).slice(-4000)}`)
  }
  await start()
  return {
    ...urls(stomp, ws, management),
    stop: () => docker("stop", name).then(() => {}),
    start,
    kill: () => docker("kill", name).then(() => {}),
    wipe: async () => {
      for (const command of ["stop_app", "reset", "start_app"])
        await docker("exec", name, "rabbitmqctl", "-q", command)
    },
    ctl: (...args) => docker("exec", name, "rabbitmqctl", "-q", ...args),
    remove: async () => {
      process.removeListener("exit", removeNow)
      await docker("rm", "-f", "-v", name)
    },
  }
}
