/** The built programs as child processes. */
import { type ChildProcess, spawn } from "node:child_process"
import { fileURLToPath } from "node:url"

export interface Ended {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  readonly stdout: string
  readonly stderr: string
}

export interface Program {
  readonly child: ChildProcess
  /** What it has written to standard output so far. */
  readonly stdout: () => string
  readonly ended: Promise<Ended>
}

/** Starts a file of `dist` with these variables and none of ours but PATH. */
export const start = (
  file: "cli.js" | "consumer.js" | "relay.js",
  args: ReadonlyArray<string>,
  variables: Readonly<Record<string, string>> = {},
  cwd?: string,
): Program => {
  const path = fileURLToPath(new URL(`../../dist/${file}`, import.meta.url))
  const child = spawn(process.execPath, [path, ...args], {
    env: { PATH: process.env["PATH"] ?? "", ...variables },
    stdio: ["ignore", "pipe", "pipe"],
    ...(cwd === undefined ? {} : { cwd }),
  })
  let [stdout, stderr] = ["", ""]
  child.stdout.setEncoding("utf8").on("data", (text) => {
    stdout += text
  })
  child.stderr.setEncoding("utf8").on("data", (text) => {
    stderr += text
  })
  const ended = new Promise<Ended>((resolve) => {
    child.once("close", (code, signal) => resolve({ code, signal, stdout, stderr }))
  })
  return { child, stdout: () => stdout, ended }
}

/** Runs `drizzle-outbox` to its end. */
export const cli = (
  args: ReadonlyArray<string>,
  variables: Readonly<Record<string, string>> = {},
): Promise<Ended> => start("cli.js", args, variables).ended
