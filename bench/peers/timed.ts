/**
 * What the programs in this folder share. Each drains a queue of its own with somebody else's library, in a process of
 * its own, on the Node.js and with the packages that `support/peers.ts` has put into its working directory.
 */
import { createRequire } from "node:module"
import { setTimeout as sleep } from "node:timers/promises"
import { pathToFileURL } from "node:url"

export interface PeerConfig {
  readonly database: string
  readonly tuned: boolean
  readonly messages: number
  /** Milliseconds after which it is stopped: the rate is that of what was done by then. */
  readonly limit: number
  /** A STOMP broker to publish to; without one a job does nothing. */
  readonly broker?: string
  readonly destination?: string
}

export const config = JSON.parse(process.argv[2] ?? "{}") as PeerConfig

/** A package of the working directory. */
export const load = async <Package>(name: string): Promise<Package> => {
  const path = createRequire(`${process.cwd()}/`).resolve(name)
  return (await import(pathToFileURL(path).href)) as Package
}

/** Runs until `left` says that nothing is left, or the limit is over; prints the rate per second. */
export const timed = async (start: () => Promise<unknown>, left: () => Promise<number>): Promise<never> => {
  const began = performance.now()
  await start()
  let rest = await left()
  while (rest > 0 && performance.now() - began < config.limit) {
    await sleep(rest > config.messages / 10 ? 50 : 5)
    rest = await left()
  }
  const rate = ((config.messages - rest) / (performance.now() - began)) * 1000
  console.log(JSON.stringify({ rate }))
  process.exit(0)
}
