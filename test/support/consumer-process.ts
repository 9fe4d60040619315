/** A consumer as its users run it: a process of its own. */
import { type ChildProcess, spawn } from "node:child_process"
import { resolve as resolvePath } from "node:path"

export interface ConsumerProcess {
  readonly pid: number
  /** Sends a signal. */
  readonly kill: (signal: NodeJS.Signals) => void
  /** Asks it to drain and waits for its end; gives the exit code. */
  readonly terminate: () => Promise<number | null>
  /** Resolves with the exit code, or null when a signal ended it. */
  readonly exited: Promise<number | null>
  /** Everything it wrote to standard error so far. */
  readonly stderr: () => string
  /** Everything it wrote to standard output so far. */
  readonly stdout: () => string
  /** Everything it logged so far. */
  readonly lines: () => ReadonlyArray<
    { readonly level: string; readonly message: string } & Record<string, unknown>
  >
}

export interface ConsumerCommand {
  /** "./handlers.js#handleOrder" */
  readonly module: string
  readonly destination: string
  readonly queue?: string
  readonly consumer: string
  readonly databaseUrl: string
  readonly brokerUrl: string
  /** Further variables. */
  readonly env?: Readonly<Record<string, string>>
  /** Further arguments. */
  readonly args?: ReadonlyArray<string>
  /** Working directory. Default: the project's. */
  readonly cwd?: string
}

const running = new Set<ChildProcess>()
process.on("exit", () => {
  for (const child of running) child.kill("SIGKILL")
})

/** This process runs in the project's folder, itself or as a program of `build`; a consumer may run elsewhere. */
const program = resolvePath("dist/consumer.js")

/** Starts `node dist/consumer.js`. */
export const spawnConsumer = (command: ConsumerCommand): ConsumerProcess => {
  const queue = command.queue === undefined ? [] : [command.queue]
  const args = [command.module, command.destination, ...queue, "--consumer", command.consumer]
  const child = spawn(process.execPath, [program, ...args, ...(command.args ?? [])], {
    env: {
      ...process.env,
      OUTBOX_DATABASE_URL: command.databaseUrl,
      OUTBOX_BROKER_URL: command.brokerUrl,
      ...command.env,
    },
    stdio: ["ignore", "pipe", "pipe"],
    ...(command.cwd === undefined ? {} : { cwd: command.cwd }),
  })
  running.add(child)
  let [stdout, stderr] = ["", ""]
  child.stdout.setEncoding("utf8").on("data", (text) => {
    stdout += text
  })
  child.stderr.setEncoding("utf8").on("data", (text) => {
    stderr += text
  })
  const exited = new Promise<number | null>((resolve) => {
    child.once("close", (code) => {
      running.delete(child)
      resolve(code)
    })
  })
  return {
    pid: child.pid ?? 0,
    kill: (signal) => void child.kill(signal),
    terminate: () => {
      child.kill("SIGTERM")
      return exited
    },
    exited,
    stderr: () => stderr,
    stdout: () => stdout,
    lines: () =>
      stdout
        .split("\n")
        .slice(0, -1)
        .flatMap((line) => {
          try {
            return [JSON.parse(line)]
          } catch {
            // A handler may print what it likes.
            return []
          }
        }),
  }
}
