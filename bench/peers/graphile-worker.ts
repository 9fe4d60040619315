/** graphile-worker and a task that does nothing. */
import postgres from "postgres"
import { config, load, timed } from "./timed.ts"

interface GraphileWorker {
  readonly run: (options: object) => Promise<unknown>
  readonly runMigrations: (options: object) => Promise<void>
  readonly Logger: new (factory: () => () => void) => object
}

const { run, runMigrations, Logger } = await load<GraphileWorker>("graphile-worker")
const { database: connectionString, tuned, messages } = config
const logger = new Logger(() => () => {})
const sql = postgres(connectionString, { max: 1, onnotice: () => {} })
await runMigrations({ connectionString, logger })
await sql`
  SELECT count(*) FROM graphile_worker.add_jobs(ARRAY(
    SELECT json_populate_record(null::graphile_worker.job_spec, json_build_object(
      'identifier', 'nothing', 'payload', json_build_object('order_id', n, 'note', repeat('x', 150))))
    FROM generate_series(1, ${messages}::int) n))`
await sql`VACUUM ANALYZE`
const worker = {
  concurrentJobs: 24,
  localQueue: { size: 500 },
  completeJobBatchDelay: 0,
  failJobBatchDelay: 0,
  maxPoolSize: 10,
}
await timed(
  () =>
    run({
      taskList: { nothing: () => {} },
      noHandleSignals: true,
      ...(tuned
        ? { preset: { worker: { ...worker, connectionString, logger } } }
        : { connectionString, logger }),
    }),
  async () => {
    const [row] = await sql<
      [{ left: number }]
    >`SELECT count(*)::int AS left FROM graphile_worker._private_jobs`
    return row.left
  },
)
