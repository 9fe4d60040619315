/** pg-boss and a handler that does nothing. */
import postgres from "postgres"
import { config, load, timed } from "./timed.ts"

interface Boss {
  readonly on: (event: string, listener: () => void) => void
  readonly start: () => Promise<unknown>
  readonly createQueue: (name: string, options?: object) => Promise<void>
  readonly insert: (name: string, jobs: ReadonlyArray<object>) => Promise<unknown>
  readonly work: (name: string, options: object, handler: () => Promise<void>) => Promise<string>
}

const { PgBoss } = await load<{ readonly PgBoss: new (options: object) => Boss }>("pg-boss")
const { database: connectionString, tuned, messages } = config
const sql = postgres(connectionString, { max: 1, onnotice: () => {} })
const boss = new PgBoss({ connectionString, ...(tuned && { useListenNotify: true }) })
boss.on("error", () => {})
await boss.start()
await boss.createQueue("nothing", tuned ? { partition: true, notify: true } : {})
for (let written = 0; written < messages; written += 1000)
  await boss.insert(
    "nothing",
    Array.from({ length: Math.min(1000, messages - written) }, (_, n) => ({
      data: { order_id: written + n, note: "x".repeat(150) },
    })),
  )
await sql`VACUUM ANALYZE`
await timed(
  () =>
    boss.work(
      "nothing",
      tuned ? { batchSize: 500, burstWhenBatchFull: true, pollingIntervalSeconds: 0.5 } : {},
      async () => {},
    ),
  async () => {
    const [row] = await sql<[{ left: number }]>`
      SELECT count(*)::int AS left FROM pgboss.job WHERE name = 'nothing' AND state < 'completed'`
    return row.left
  },
)
