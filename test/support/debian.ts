/** What tests need of Debian, installed where that is possible. */
import { execFile } from "node:child_process"
import { existsSync } from "node:fs"
import { promisify } from "node:util"

const run = promisify(execFile)

/** apt-get takes one at a time. */
let turn: Promise<unknown> = Promise.resolve()

/** Installs a package by apt-get, as root on Debian or Ubuntu; false where that cannot be. A server of the package's own is not started. */
export const installPackage = (name: string): Promise<boolean> => {
  const installed = turn.then(async () => {
    if (process.getuid?.() !== 0 || !existsSync("/etc/debian_version")) return false
    console.error(`${name} is not installed: running apt-get install ${name}`)
    const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive", RUNLEVEL: "1" }
    await run("apt-get", ["update"], { env })
    await run("apt-get", ["install", "-y", "--no-install-recommends", name], { env })
    return true
  })
  turn = installed.catch(() => {})
  return installed
}
