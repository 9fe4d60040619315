/** The README's TypeScript is compiled, its quick start is run. */
import { execFile, spawn } from "node:child_process"
import { mkdirSync, readFileSync, writeFileSync } from "node:fs"
import { promisify } from "node:util"
import { assert, describe, it } from "@effect/vitest"
import { createDatabase } from "../support/postgres.ts"
import { eventually } from "../support/relay.ts"

const readme = readFileSync("README.md", "utf8")
const blocks = [...readme.matchAll(/^```ts(?<fragment> ignore)?\n(?<code>.*?)^```$/gms)].map(
  ({ groups }) => ({
    whole: groups?.["fragment"] === undefined,
    code: groups?.["code"] ?? "",
  }),
)

/** What a fragment takes for granted. */
const surroundings = `
import { eq } from "drizzle-orm"
import { transaction } from "drizzle-outbox"
import { Effect, Layer } from "effect"
import type { AnyTransaction } from "drizzle-outbox"
declare const tx: AnyTransaction
declare const first: typeof orders.$inferInsert, second: typeof orders.$inferInsert, row: typeof orders.$inferInsert
declare const request: { readonly id: string }
declare const url: string, broker: string
`

describe("README", () => {
  it("compiles, and its quick start stores a row and its messages", async () => {
    const [quickStart] = blocks.filter(({ whole }) => whole)
    assert.isDefined(quickStart)
    const folder = "build/readme"
    mkdirSync(folder, { recursive: true })
    writeFileSync(`${folder}/quick-start.ts`, quickStart!.code)
    const fragments = blocks.filter(({ whole }) => !whole).map(({ code }) => code)
    assert.isAbove(fragments.length, 1)
    const imports = fragments.flatMap((code) => code.match(/^import .*$/gm) ?? [])
    const bodies = fragments.map(
      (code, index) =>
        `export const fragment${index} = async () => {\n${code.replace(/^import .*$/gm, "")}\n}`,
    )
    const context = quickStart!.code.slice(0, quickStart!.code.indexOf("const order = await"))
    writeFileSync(
      `${folder}/fragments.ts`,
      [
        surroundings,
        ...imports,
        context.replace(
          "export const { withOutbox, emit, events } = defineOutbox(",
          "const defined = defineOutbox(",
        ),
        "const { withOutbox, emit } = defined",
        "const outbox = defined",
        ...bodies,
      ].join("\n"),
    )
    writeFileSync(
      `${folder}/tsconfig.json`,
      JSON.stringify({
        extends: "../../tsconfig.json",
        compilerOptions: { noEmit: false, noUnusedLocals: false, rootDir: ".", outDir: "out" },
        include: ["*.ts"],
      }),
    )
    await promisify(execFile)("node_modules/.bin/tsc", ["-p", folder]).catch((error: { stdout: string }) => {
      throw new Error(`the README does not compile:\n${error.stdout}`)
    })

    const database = await createDatabase()
    await database.sql`
      CREATE TABLE orders (id integer PRIMARY KEY GENERATED ALWAYS AS IDENTITY, customer_id text NOT NULL, total numeric NOT NULL)`
    const child = spawn(process.execPath, [`${folder}/out/quick-start.js`], {
      env: { ...process.env, OUTBOX_DATABASE_URL: database.url },
    })
    let output = ""
    child.stdout.on("data", (data) => {
      output += data
    })
    child.stderr.on("data", (data) => {
      output += data
    })
    await eventually(() => assert.match(output, /order 1 is stored/), 20).finally(() => child.kill())
    const rows =
      await database.sql`SELECT event, destination, key, body FROM outbox.messages ORDER BY position`
    assert.deepStrictEqual(
      rows.map((row) => ({ ...row })),
      [
        {
          event: "orders",
          destination: "/topic/orders.v2",
          key: "c-17",
          body: '{"order_id":1,"total":"100.00"}',
        },
        { event: "report.requested", destination: "/queue/reports", key: null, body: '{"day":"2026-11-23"}' },
      ],
    )
    await database.drop()
  })
})
