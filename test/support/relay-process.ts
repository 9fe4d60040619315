/** The relay as its users run it: a process of its own. */
import { type ChildProcess, spawn } from "node:child_process"
import { readFileSync } from "node:fs"

export interface RelayProcess {
  readonly pid: number
  /** Everything it printed so far. */
  readonly output: () => string
  /** Sends a signal and waits for the end; gives the exit code, or null when the signal ended it. */
  readonly stop: (signal?: NodeJS.Signals) => Promise<number | null>
  readonly signal: (signal: NodeJS.Signals) => void
  /** Seconds of processor time used so far (Linux). */
  readonly cpuSeconds: () => number
}

const running = new Set<ChildProcess>()
process.on("exit", () => {
  for (const child of running) child.kill("SIGKILL")
})

/** Starts `node dist/relay.js`; `env` are further variables. */
export const spawnRelay = (
  databaseUrl: string,
  brokerUrl: string,
  env: Readonly<Record<string, string>> = {},
): RelayProcess => {
  const child = spawn(process.execPath, ["dist/relay.js"], {
    env: { ...process.env, OUTBOX_DATABASE_URL: databaseUrl, OUTBOX_BROKER_URL: brokerUrl, ...env },
    stdio: ["ignore", "pipe", "pipe"],
  })
  running.add(child)
  let output = ""
  child.stdout.on("data", (data: Buffer) => {
    output += data.toString()
  })
  child.stderr.on("data", (data: Buffer) => {
    output += data.toString()
  })
  const ended = new Promise<number | null>((resolve) => {
    child.once("exit", (code) => {
      running.delete(child)
      resolve(code)
    })
  })
  return {
    pid: child.pid ?? 0,
    output: () => output,
    signal: (signal) => void child.kill(signal),
    stop: (signal = "SIGTERM") => {
      child.kill(signal)
      return ended
    },
    cpuSeconds: () => cpuSecondsOf(child.pid ?? 0),
  }
}

/** Processor time of a process in seconds, from /proc. */
export const cpuSecondsOf = (pid: number): number => {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8")
    .replace(/^.*\) /, "")
    .split(" ")
  return (Number(fields[11]) + Number(fields[12])) / 100
}
