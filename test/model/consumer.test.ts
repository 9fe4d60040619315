/** The consumer keeps its promises in every world: a failure gives the seed, with which it comes again, and its history. */
import { it } from "vitest"
import { runConsumerModel } from "./consumer-model.ts"
import { loadConsumer, REAL } from "./variant.ts"
import { assertKept, seedsOf } from "./world.ts"

it("consumers keep the promises in worlds of faults", { timeout: 300_000 }, async () => {
  const modules = await loadConsumer(REAL)
  for (const seed of seedsOf(30)) assertKept(seed, await runConsumerModel(modules, seed))
})
