/** A broker of the tests dies with the process that started it, however that dies. */
import { spawn } from "node:child_process"
import { existsSync, mkdtempSync, readFileSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { expect, it } from "vitest"
import { eventually } from "../suites/broker.ts"

// Its watchdog, as it is written there.
const script = /"sh",\s*\[\s*"-c",\s*'([^']+)'/.exec(
  readFileSync(join(import.meta.dirname, "../support/server-process.ts"), "utf8"),
)?.[1]

const alive = (pid: number) => {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}

it("ends the group of every server, and removes the folder, when its standard input ends", async () => {
  const home = mkdtempSync(join(tmpdir(), "outbox-watchdog-"))
  const server = spawn("sh", ["-c", "sleep 60 & wait"], { detached: true, stdio: "ignore" })
  const pid = server.pid as number
  writeFileSync(join(home, "server.pgid"), String(pid))
  const watchdog = spawn("sh", ["-c", script as string, home], { stdio: ["pipe", "ignore", "ignore"] })
  expect(alive(pid)).toBe(true)
  watchdog.stdin?.end()
  await eventually(() => {
    expect(server.signalCode).toBe("SIGKILL")
    expect(existsSync(home)).toBe(false)
  })
})
