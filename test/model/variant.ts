/** The modules of the library as the model needs them, from the real source or from a broken copy of it. */
import { cp, mkdir, readFile, rm, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import type { Mutant } from "./mutants.ts"

const ROOT = fileURLToPath(new URL("../../", import.meta.url))

/** The source as it is. */
export const REAL = join(ROOT, "src")

/** Applies a mutant to a copy of `src` in `target`. Fails when a text of it is not there exactly once: a mutant must not rot. */
export const applyMutant = async (mutant: Mutant, target: string): Promise<void> => {
  for (const { file, find, replace } of mutant.edits) {
    const path = join(target, file)
    const text = await readFile(path, "utf8")
    const found = text.split(find).length - 1
    if (found !== 1)
      throw new Error(`mutant "${mutant.name}": its text occurs ${found} times in src/${file}:\n${find}`)
    await writeFile(
      path,
      text.replace(find, () => replace),
    )
  }
}

/** A broken copy of the source, where imports resolve as in the real one; gives its path. */
export const makeVariant = async (mutant: Mutant): Promise<string> => {
  const root = join(ROOT, "build", "mutants", mutant.name)
  const target = join(root, "src")
  await rm(root, { recursive: true, force: true })
  await mkdir(root, { recursive: true })
  await cp(REAL, target, { recursive: true })
  await cp(join(ROOT, "migrations"), join(root, "migrations"), { recursive: true })
  await applyMutant(mutant, target)
  return target
}

/** What a relay's world is made of, from this copy of the source. */
export const loadRelay = async (source: string) => {
  const [relay, wakeup, store, error, memory, broker, memoryBroker] = await Promise.all([
    load<typeof import("../../src/relay/relay.ts")>(source, "relay/relay.ts"),
    load<typeof import("../../src/relay/wakeup.ts")>(source, "relay/wakeup.ts"),
    load<typeof import("../../src/store/store.ts")>(source, "store/store.ts"),
    load<typeof import("../../src/store/error.ts")>(source, "store/error.ts"),
    load<typeof import("../../src/store/memory.ts")>(source, "store/memory.ts"),
    load<typeof import("../../src/broker/broker.ts")>(source, "broker/broker.ts"),
    load<typeof import("../../src/broker/memory.ts")>(source, "broker/memory.ts"),
  ])
  return { relay, wakeup, store, error, memory, broker, memoryBroker }
}

export type RelayModules = Awaited<ReturnType<typeof loadRelay>>

/** What a consumer's world is made of. */
export const loadConsumer = async (source: string) => {
  const [consume, outcome, inbox, memory, postgres, error, broker, memoryBroker] = await Promise.all([
    load<typeof import("../../src/consumer/consume.ts")>(source, "consumer/consume.ts"),
    load<typeof import("../../src/consumer/outcome.ts")>(source, "consumer/outcome.ts"),
    load<typeof import("../../src/inbox/inbox.ts")>(source, "inbox/inbox.ts"),
    load<typeof import("../../src/inbox/memory.ts")>(source, "inbox/memory.ts"),
    load<typeof import("../../src/inbox/postgres.ts")>(source, "inbox/postgres.ts"),
    load<typeof import("../../src/store/error.ts")>(source, "store/error.ts"),
    load<typeof import("../../src/broker/broker.ts")>(source, "broker/broker.ts"),
    load<typeof import("../../src/broker/memory.ts")>(source, "broker/memory.ts"),
  ])
  return { consume, outcome, inbox, memory, postgres, error, broker, memoryBroker }
}

export type ConsumerModules = Awaited<ReturnType<typeof loadConsumer>>

const load = <Module>(source: string, file: string): Promise<Module> => import(join(source, file))
