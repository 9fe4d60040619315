/** What importing the core loads. */
import { readFileSync } from "node:fs"
import { expect, it } from "vitest"

/** The packages that a module and its own modules import at run time. */
const packages = (module: URL, seen = new Set<string>(), found = new Set<string>()): Set<string> => {
  if (seen.has(module.href)) return found
  seen.add(module.href)
  const source = readFileSync(module, "utf8").replaceAll(/^\s*(\/\/|\*|\/\*).*$/gm, "")
  for (const [, type, clause, name = ""] of source.matchAll(IMPORT)) {
    const names = clause?.startsWith("{") ? clause.slice(1, -1).split(",") : ["all"]
    if (type !== undefined || names.every((entry) => /^\s*(type\s|$)/.test(entry))) continue
    if (name.startsWith(".")) packages(new URL(name, module), seen, found)
    else found.add(name)
  }
  return found
}

const IMPORT = /^(?:import|export)\s+(type\s+)?(?:(\{[^}]*\}|\*(?: as \w+)?|\w+)\s+from\s+)?"([^"\s]+)"/gm

it("is drizzle-orm and effect: no broker client, no WebSocket, no driver", () => {
  const loaded = [...packages(new URL("../../src/index.ts", import.meta.url))]
  expect(loaded).toContain("drizzle-orm")
  expect(loaded.filter((name) => !/^(drizzle-orm(\/pg-core)?|effect(\/\w+)?|node:.*)$/.test(name))).toEqual(
    [],
  )
})
