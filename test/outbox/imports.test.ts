/** What importing the core loads. */
import { readFileSync } from "node:fs"
import { expect, it } from "vitest"

/** The packages that a module and its own modules import at run time. */
const packages = (module: URL, seen = new Set<string>(), found = new Set<string>()): Set<string> => {
  if (seen.has(module.href)) return found
  seen.add(module.href)
  const source = readFileSync(module, "utf8").replaceAll(/^\s*(\/\/|\*|\/\*).*$/gm, "")
  for (const [, clause, name] of source.matchAll(/^(?:import|export)\b([^"']*?)\s*(?:from\s*)?"([^"]+)"/gm)) {
    if (name === undefined || /^\s+type\b/.test(clause ?? "")) continue
    const values = /^\s*\{([^}]*)\}\s*$/.exec(clause?.replace(/\bfrom\b/, "") ?? "")?.[1]?.split(",")
    if (values?.every((value) => value.trim() === "" || value.trim().startsWith("type "))) continue
    if (name.startsWith(".")) packages(new URL(name, module), seen, found)
    else found.add(name)
  }
  return found
}

it("is drizzle-orm and effect: no broker client, no WebSocket, no driver", () => {
  const loaded = [...packages(new URL("../../src/index.ts", import.meta.url))]
  expect(loaded).toContain("drizzle-orm")
  expect(loaded.filter((name) => !/^(drizzle-orm(\/pg-core)?|effect|node:.*)$/.test(name))).toEqual([])
})
