/** A job queue as its users run it, tuned: one process that works on jobs which do nothing, another that adds them. */
import { createRequire } from "node:module"
import { join } from "node:path"
import { pathToFileURL } from "node:url"
import { now, openLoop, poisson } from "../support/clock.ts"
import { serve } from "../support/program.ts"
import type { Steady, Wrote } from "../support/steady-writer.ts"

export type QueueName = "graphile-worker" | "pg-boss"

export interface QueueConfig {
  readonly queue: QueueName
  /** Where its package is installed. */
  readonly folder: string
  readonly database: string
  readonly role: "worker" | "writer"
}

export type QueueAsk = "completed" | { readonly steady: Steady } | { readonly burst: number }
export type QueueAnswer = { readonly completed: number } | Wrote | undefined

const job = (n: number) => ({ order_id: n, note: "x".repeat(150) })

interface Queue {
  readonly work: (onCompleted: () => void) => Promise<unknown>
  readonly add: (n: number) => Promise<unknown>
  readonly addAll: (numbers: ReadonlyArray<number>) => Promise<unknown>
  readonly close: () => Promise<unknown>
}

const load = (folder: string, name: string): Promise<Record<string, unknown>> =>
  import(pathToFileURL(createRequire(join(folder, "package.json")).resolve(name)).href)

/** What is used of graphile-worker 0.18. */
interface GraphileWorker {
  readonly Logger: new (factory: () => () => void) => unknown
  readonly run: (options: unknown) => Promise<{ readonly stop: () => Promise<void> }>
  readonly makeWorkerUtils: (options: unknown) => Promise<{
    readonly migrate: () => Promise<void>
    readonly addJob: (task: string, payload: unknown) => Promise<unknown>
    readonly addJobs: (jobs: ReadonlyArray<unknown>) => Promise<unknown>
    readonly release: () => Promise<void>
  }>
}

const graphileWorker = async ({ folder, database }: QueueConfig): Promise<Queue> => {
  const { Logger, run, makeWorkerUtils } = (await load(
    folder,
    "graphile-worker",
  )) as unknown as GraphileWorker
  const utils = await makeWorkerUtils({ connectionString: database })
  await utils.migrate()
  const preset = {
    worker: {
      connectionString: database,
      // It would write a line for each job.
      logger: new Logger(() => () => {}),
      concurrentJobs: 24,
      localQueue: { size: 500 },
      completeJobBatchDelay: 0,
      failJobBatchDelay: 0,
    },
  }
  let stop = async () => {}
  return {
    work: async (onCompleted) => {
      const runner = await run({
        preset,
        taskList: { noop: async () => onCompleted() },
        noHandleSignals: true,
      })
      stop = runner.stop
    },
    add: (n) => utils.addJob("noop", job(n)),
    addAll: (numbers) => utils.addJobs(numbers.map((n) => ({ identifier: "noop", payload: job(n) }))),
    close: async () => {
      await stop()
      await utils.release()
    },
  }
}

/** What is used of pg-boss 12. */
interface PgBoss {
  readonly on: (event: "error", listener: (error: unknown) => void) => void
  readonly start: () => Promise<unknown>
  readonly createQueue: (name: string, options: unknown) => Promise<unknown>
  readonly work: (
    name: string,
    options: unknown,
    handler: (jobs: ReadonlyArray<unknown>) => Promise<void>,
  ) => Promise<unknown>
  readonly send: (name: string, data: unknown) => Promise<unknown>
  readonly insert: (name: string, jobs: ReadonlyArray<unknown>) => Promise<unknown>
  readonly stop: (options: unknown) => Promise<void>
}

const pgBoss = async ({ folder, database, role }: QueueConfig): Promise<Queue> => {
  const { PgBoss } = (await load(folder, "pg-boss")) as unknown as {
    PgBoss: new (options: unknown) => PgBoss
  }
  const boss = new PgBoss({
    connectionString: database,
    useListenNotify: true,
    supervise: role === "worker",
    schedule: false,
  })
  boss.on("error", () => {})
  await boss.start()
  await boss.createQueue("noop", { partition: true, notify: true })
  return {
    work: (onCompleted) =>
      boss.work(
        "noop",
        { batchSize: 500, burstWhenBatchFull: true, pollingIntervalSeconds: 0.5 },
        async (jobs) => {
          for (const _ of jobs) onCompleted()
        },
      ),
    add: (n) => boss.send("noop", job(n)),
    addAll: (numbers) =>
      boss.insert(
        "noop",
        numbers.map((n) => ({ data: job(n) })),
      ),
    close: () => boss.stop({ graceful: false }),
  }
}

serve(async (config: QueueConfig) => {
  const queue = await { "graphile-worker": graphileWorker, "pg-boss": pgBoss }[config.queue](config)
  let completed = 0
  let written = 0
  if (config.role === "worker") await queue.work(() => completed++)
  const answer = async (ask: QueueAsk): Promise<QueueAnswer> => {
    if (ask === "completed") return { completed }
    if ("steady" in ask) {
      const moments = poisson(ask.steady.perSecond, ask.steady.seconds)
      const began = now()
      const begun = await openLoop(moments, async () => {
        await queue.add(++written)
      })
      return { written: begun.length, seconds: (now() - began) / 1000 }
    }
    await queue.addAll(Array.from({ length: ask.burst }, () => ++written))
    return undefined
  }
  return { answer, close: queue.close }
})
