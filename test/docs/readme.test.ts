/** The TypeScript of README and docs is compiled; the README's quick start is run, against a database and a broker. */
import { execFile, spawn } from "node:child_process"
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { basename } from "node:path"
import { promisify } from "node:util"
import { assert, beforeAll, describe, inject, it } from "@effect/vitest"
import { createDatabase } from "../support/postgres.ts"
import { eventually } from "../support/relay.ts"

const run = promisify(execFile)
const root = "build/readme"

interface Block {
  /** The page that it stands on: its folder here. */
  readonly page: string
  /** The file's name, in the first line of a whole one. */
  readonly name: string
  readonly whole: boolean
  readonly code: string
}

const blocksOf = (file: string): ReadonlyArray<Block> => {
  const page = basename(file, ".md").toLowerCase()
  return [...readFileSync(file, "utf8").matchAll(/^```ts(?<fragment> ignore)?\n(?<code>.*?)^```$/gms)].map(
    ({ groups }, index) => {
      const code = groups?.["code"] ?? ""
      const whole = groups?.["fragment"] === undefined
      const name = /^\/\/ ([a-z-]+)\.ts/.exec(code)?.[1]
      if (whole) assert.isDefined(name, `a block of ${file} names no file in its first line:\n${code}`)
      return { page, name: whole ? (name as string) : `fragment-${index}`, whole, code }
    },
  )
}

/** What a fragment takes for granted. It may import a name itself. */
const given: Readonly<Record<string, ReadonlyArray<string>>> = {
  "drizzle-orm": ["eq"],
  "drizzle-outbox": ["transaction"],
  "drizzle-outbox/consumer": ["consume", "Reject"],
  "drizzle-outbox/stomp": ["layerStomp"],
  effect: ["Effect", "Layer"],
  "../readme/context.ts": ["orders", "invoices", "outbox", "withOutbox", "emit", "events"],
}
const declared = `
import type { AnyDatabase, AnyTransaction } from "drizzle-outbox"
import type { Message } from "drizzle-outbox/consumer"
declare const tx: AnyTransaction
declare const db: AnyDatabase
declare const first: typeof orders.$inferInsert, second: typeof orders.$inferInsert, row: typeof orders.$inferInsert
declare const request: { readonly id: string }
declare const url: string, broker: string
`

const fragmentFile = ({ code }: Block): string => {
  const imports = code.match(/^import .*$/gm) ?? []
  const own = new Set(imports.flatMap((line) => line.replace(/ from .*$/, "").match(/\w+/g) ?? []))
  const rest = Object.entries(given).map(([module, names]) => {
    const missing = names.filter((name) => !own.has(name))
    return `import { ${missing.join(", ")} } from "${module}"`
  })
  const body = code.replace(/^import .*$/gm, "")
  return [...imports, ...rest, declared, "export const fragment = async () => {", body, "}"].join("\n")
}

/** The README's outbox, with a name for the whole, and the table of its consumer. */
const contextFile = (outbox: string): string =>
  [
    outbox.replace(
      "export const { withOutbox, emit, events } = defineOutbox(",
      "export const outbox = defineOutbox(",
    ),
    "export const { withOutbox, emit, events } = outbox",
    'export const invoices = pgTable("invoices", { orderId: integer("order_id").primaryKey(), total: numeric().notNull() })',
  ].join("\n")

describe("README", () => {
  beforeAll(async () => {
    rmSync(root, { recursive: true, force: true })
    const pages = [
      "README.md",
      "docs/consumer.md",
      "docs/django-outbox-pattern.md",
      "docs/operations.md",
    ].filter(existsSync)
    const blocks = pages.flatMap(blocksOf)
    for (const block of blocks) {
      mkdirSync(`${root}/${block.page}`, { recursive: true })
      writeFileSync(`${root}/${block.page}/${block.name}.ts`, block.whole ? block.code : fragmentFile(block))
    }
    const outbox = blocks.find(({ page, name }) => page === "readme" && name === "outbox")
    assert.isDefined(outbox)
    assert.isAbove(blocks.length, 5)
    writeFileSync(`${root}/readme/context.ts`, contextFile(outbox!.code))
    writeFileSync(
      `${root}/tsconfig.json`,
      JSON.stringify({
        extends: "../../tsconfig.json",
        compilerOptions: { noEmit: false, noUnusedLocals: false, rootDir: ".", outDir: "out" },
        include: ["*/*.ts"],
        exclude: ["out"],
      }),
    )
    await run("node_modules/.bin/tsc", ["-p", root]).catch((error: { stdout: string }) => {
      throw new Error(`README or docs do not compile:\n${error.stdout}`)
    })
  })

  it("stores a row and its messages, publishes and consumes them", async () => {
    const database = await createDatabase()
    await database.sql`
      CREATE TABLE orders (id integer PRIMARY KEY GENERATED ALWAYS AS IDENTITY, customer_id text NOT NULL, total numeric NOT NULL)`
    await database.sql`CREATE TABLE invoices (order_id integer PRIMARY KEY, total numeric NOT NULL)`
    const env = {
      ...process.env,
      OUTBOX_DATABASE_URL: database.url,
      OUTBOX_BROKER_URL: inject("rabbitmq").stompUrl,
    }
    const billing = spawn(process.execPath, [`${root}/out/readme/billing.js`], {
      env,
      stdio: ["ignore", "ignore", "inherit"],
    })
    try {
      await eventually(async () => {
        const listening =
          await database.sql`SELECT FROM outbox.consumers WHERE state ->> 'connection' = 'connected'`
        assert.lengthOf(listening, 1)
      }, 20)

      const placed = await run(process.execPath, [`${root}/out/readme/place-order.js`], { env })
      assert.match(placed.stdout, /order 1 is stored/)
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
          {
            event: "report.requested",
            destination: "/queue/reports",
            key: null,
            body: '{"day":"2026-11-23"}',
          },
        ],
      )

      await run(process.execPath, ["dist/relay.js", "--once"], { env })
      await eventually(async () => {
        const invoices = await database.sql`SELECT order_id, total FROM invoices`
        assert.deepStrictEqual(
          invoices.map((row) => ({ ...row })),
          [{ order_id: 1, total: "100.00" }],
        )
      }, 20)
      const inbox = await database.sql`SELECT consumer, queue, key, state FROM outbox.inbox`
      assert.deepStrictEqual(
        inbox.map((row) => ({ ...row })),
        [{ consumer: "billing", queue: "billing.orders.v2", key: "c-17", state: "handled" }],
      )

      const exited = new Promise((resolve) => billing.once("exit", resolve))
      billing.kill("SIGTERM")
      assert.strictEqual(await exited, 0)
      const unsubscribe = ["dist/cli.js", "unsubscribe", "/topic/orders.v2", "--consumer", "billing", "--yes"]
      assert.match((await run(process.execPath, unsubscribe, { env })).stdout, /deleted queue/)
    } finally {
      billing.kill("SIGKILL")
      await database.drop()
    }
  })
})
