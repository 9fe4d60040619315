import { defineConfig } from "vitest/config"

// Node 20 has no Map.groupBy, which vitest's reporter calls to print a failed test; this file is loaded into that process.
if (!("groupBy" in Map)) {
  Object.defineProperty(Map, "groupBy", {
    value: <K, V>(items: Iterable<V>, keyOf: (item: V, index: number) => K): Map<K, V[]> => {
      const groups = new Map<K, V[]>()
      let index = 0
      for (const item of items) {
        const key = keyOf(item, index++)
        const group = groups.get(key)
        if (group === undefined) groups.set(key, [item])
        else group.push(item)
      }
      return groups
    },
  })
}

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    exclude: ["test/outages/**", "test/model/mutants.test.ts"],
    globalSetup: ["test/support/global-setup.ts"],
    testTimeout: 60_000,
    hookTimeout: 120_000,
    // Most of them wait for a broker's time-outs, not for a core.
    maxWorkers: 4,
  },
})
