/** Tests of the tests: each deliberately broken variant is caught, whatever the seed, and for what it breaks. */
import { describe, expect, it } from "vitest"
import { runConsumerModel } from "./consumer-model.ts"
import { openDatabase, runLateWriteModel } from "./late-write-model.ts"
import { type Mutant, mutants } from "./mutants.ts"
import { runRelayModel } from "./relay-model.ts"
import { loadConsumer, loadRelay, makeVariant } from "./variant.ts"
import type { Ending } from "./world.ts"

const SEEDS = Array.from({ length: 20 }, (_, index) => index + 1)

const modelOf = async ({ model }: Mutant, source: string): Promise<(seed: number) => Promise<Ending>> => {
  if (model === "relay") {
    const modules = await loadRelay(source)
    return (seed) => runRelayModel(modules, seed)
  }
  const modules = await loadConsumer(source)
  if (model === "consumer") return (seed) => runConsumerModel(modules, seed)
  const database = await openDatabase()
  return (seed) => runLateWriteModel(modules, seed, database)
}

describe("deliberately broken variants are caught in 20 of 20 seeds", () => {
  it.each(mutants)("$name", { timeout: 300_000 }, async (mutant) => {
    const run = await modelOf(mutant, await makeVariant(mutant))
    const survived: number[] = []
    const promises = new Set<string | undefined>()
    for (const seed of SEEDS) {
      const { violation } = await run(seed)
      if (violation === undefined) survived.push(seed)
      else promises.add(violation.promise)
    }
    expect(survived, "seeds in which nothing was noticed").toEqual([])
    expect(mutant.violates).toEqual(expect.arrayContaining([...promises]))
  })
})
