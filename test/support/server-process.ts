/** What the servers of tests need of the system: ports, groups of processes, an end that comes for certain. */
import { spawn } from "node:child_process"
import { connect, createServer } from "node:net"

/** Ports that were free a moment ago, all different. */
export const freePorts = async (count: number): Promise<Array<number>> => {
  const servers = Array.from({ length: count }, () => createServer())
  const ports = await Promise.all(
    servers.map(
      (server) =>
        new Promise<number>((resolve, reject) => {
          server.once("error", reject)
          server.listen(0, "127.0.0.1", () => resolve((server.address() as { port: number }).port))
        }),
    ),
  )
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))))
  return ports
}

/** Whether somebody listens on this port of 127.0.0.1. */
export const listening = (port: number) =>
  new Promise<boolean>((resolve) => {
    const socket = connect({ port, host: "127.0.0.1" })
    socket.once("connect", () => {
      socket.destroy()
      resolve(true)
    })
    socket.once("error", () => resolve(false))
  })

/** Sends a signal to a group of processes. */
export const signalGroup = (pid: number, signal: NodeJS.Signals) => {
  try {
    process.kill(-pid, signal)
  } catch {
    // It has ended already.
  }
}

/**
 * Kills every group named by a `*.pgid` file of the folder and removes the folder, when the returned function is called
 * and when this process ends, however it does.
 */
export const watch = (home: string): (() => void) => {
  // It waits for the end of its standard input. (The kill of dash takes a process group only with -s.)
  const watchdog = spawn(
    "sh",
    [
      "-c",
      'cat >/dev/null; for f in "$0"/*.pgid; do [ -f "$f" ] && kill -s KILL -- "-$(cat "$f")"; done; rm -rf "$0"',
      home,
    ],
    { stdio: ["pipe", "ignore", "ignore"], detached: true },
  )
  watchdog.unref()
  ;(watchdog.stdin as unknown as { unref: () => void }).unref()
  return () => watchdog.stdin?.end()
}
