/** The relay keeps its promises in every world: a failure gives the seed, with which it comes again, and its history. */
import { it } from "vitest"
import { runRelayModel } from "./relay-model.ts"
import { loadRelay, REAL } from "./variant.ts"
import { assertKept, seedsOf } from "./world.ts"

it("relays keep the promises in worlds of faults", { timeout: 300_000 }, async () => {
  const modules = await loadRelay(REAL)
  for (const seed of seedsOf(12)) assertKept(seed, await runRelayModel(modules, seed))
})
