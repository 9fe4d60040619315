/** What a handler writes when its time is over commits with nobody's message, whatever the seed. */
import { it } from "vitest"
import { openDatabase, runLateWriteModel } from "./late-write-model.ts"
import { loadConsumer, REAL } from "./variant.ts"
import { assertKept, seedsOf } from "./world.ts"

it("late writes of handlers go nowhere", { timeout: 300_000 }, async () => {
  const modules = await loadConsumer(REAL)
  const database = await openDatabase()
  for (const seed of seedsOf(5)) assertKept(seed, await runLateWriteModel(modules, seed, database))
})
