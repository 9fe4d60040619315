/** Writers as processes, and what they remember. */
import { type ChildProcess, spawn } from "node:child_process"
import { fileURLToPath } from "node:url"
import type { Tried, WriterSettings } from "./writer.ts"

export interface Writers {
  readonly tried: Tried[]
  /** Orders whose commit a writer has seen. */
  readonly written: () => number
  /** Ends them politely. */
  readonly stop: () => Promise<void>
  readonly kill: () => void
}

const running = new Set<ChildProcess>()
process.on("exit", () => {
  for (const child of running) child.kill("SIGKILL")
})

const program = fileURLToPath(new URL("writer.js", import.meta.url))

export const startWriters = (settings: ReadonlyArray<WriterSettings>): Writers => {
  const tried: Tried[] = []
  let written = 0
  const take = (line: string) => {
    const one = JSON.parse(line) as Tried
    tried.push(one)
    if (one.committed !== null) written += one.orders.length
  }
  const children = settings.map((one) => {
    const child = spawn(process.execPath, [program, JSON.stringify(one)], {
      stdio: ["ignore", "pipe", "inherit"],
    })
    running.add(child)
    let rest = ""
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      const lines = (rest + text).split("\n")
      rest = lines.pop() ?? ""
      for (const line of lines) take(line)
    })
    const ended = new Promise<void>((resolve) => {
      child.once("close", () => {
        running.delete(child)
        resolve()
      })
    })
    return { child, ended }
  })
  const signal = (name: NodeJS.Signals) => {
    for (const { child } of children) child.kill(name)
  }
  return {
    tried,
    written: () => written,
    stop: async () => {
      signal("SIGTERM")
      const late = setTimeout(() => signal("SIGKILL"), 10_000)
      await Promise.all(children.map(({ ended }) => ended))
      clearTimeout(late)
    },
    kill: () => signal("SIGKILL"),
  }
}
