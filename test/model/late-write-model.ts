/** Handlers that are too slow, and write when their time is over, on a real database whose pool has one connection: one run of one seed. */
import { PGlite } from "@electric-sql/pglite"
import { sql } from "drizzle-orm"
import { Clock, Context, Effect, Layer, Logger, Schedule } from "effect"
import { printMigrations } from "../../src/store/migrate.ts"
import { connectTo, type OneConnection } from "./one-connection.ts"
import { makeProcess } from "./process.ts"
import type { ConsumerModules } from "./variant.ts"
import { type Ending, runWorld, type World } from "./world.ts"

const TIMEOUT = 200
const MESSAGES = 8
const QUEUE = "/queue/orders"

/** A database in this process, prepared once for many runs. */
export const openDatabase = async (): Promise<PGlite> => {
  const server = await PGlite.create()
  await server.exec(printMigrations("outbox"))
  await server.exec("CREATE TABLE effects (message text, late boolean)")
  return server
}

/** Runs one seed against this copy of the source. */
export const runLateWriteModel = async (
  modules: ConsumerModules,
  seed: number,
  server: PGlite,
): Promise<Ending> => {
  await server.exec("TRUNCATE effects, outbox.inbox, outbox.consumers, outbox.subscriptions")
  const connection = connectTo(server)
  try {
    return await runWorld(seed, 20_000, (world) => begin(modules, world, connection))
  } finally {
    await connection.close()
  }
}

const begin = async (modules: ConsumerModules, world: World, { db }: OneConnection) => {
  const { below, chance } = world.random
  const context = await Effect.runPromise(Effect.scoped(Layer.build(modules.memoryBroker.layerMemory())))
  const broker = Context.get(context, modules.broker.Broker)
  const process = makeProcess(world, "c-1")
  const sleep = (millis: number) => Effect.runPromise(world.sleep(millis))
  const slow = new Set<string>()
  const done = new Set<string>()
  for (let i = 1; i <= MESSAGES; i++) if (i <= 2 || chance(0.3)) slow.add(`m${i}`)

  const consumer = modules.consume.consume(
    QUEUE,
    {
      consumer: "model",
      name: process.name,
      timeout: TIMEOUT,
      retry: Schedule.spaced(100),
      parallel: 2,
      pauseAfter: 50,
    },
    async ({ id, tx }) => {
      world.tell(process.name, `handles ${id}`)
      const write = (late: boolean) => tx.execute(sql`INSERT INTO effects VALUES (${id}, ${late})`)
      if (!slow.delete(id)) {
        await sleep(20 + below(60))
        await write(false)
        // The next transaction is open for a while: a late statement finds it so.
        await sleep(20 + below(60))
        done.add(id)
        return
      }
      await write(false)
      for (let late = TIMEOUT + 5; late < TIMEOUT + 400; late += 20 + below(30)) {
        await sleep(late === TIMEOUT + 5 ? late : 30)
        world.tell(process.name, `${id} writes late`)
        await write(true)
      }
    },
  )
  Effect.runFork(
    consumer.pipe(
      Effect.provide(
        Layer.mergeAll(
          modules.postgres.layerPostgres(db),
          Layer.succeed(modules.broker.Broker, broker),
          Logger.layer([
            Logger.make<unknown, void>(({ message }) => world.tell(process.name, String(message))),
          ]),
        ),
      ),
      Effect.provideService(Clock.Clock, process.clock),
    ),
  )
  world.after(10, () => {
    const messages = Array.from({ length: MESSAGES }, (_, index) => `m${index + 1}`).map((id) => ({
      id,
      destination: QUEUE,
      contentType: "application/json",
      body: JSON.stringify(id),
      headers: { "outbox-message-id": id, "outbox-key": id },
    }))
    Effect.runFork(
      Effect.scoped(Effect.map(broker.connect(), (connection) => connection.send(messages, () => {}))),
    )
  })
  // What has committed is looked at on the same connection, between transactions.
  const look = async () => {
    const rows = (await db.execute(sql`SELECT message, late FROM effects`)) as unknown as {
      readonly rows: ReadonlyArray<{ readonly message: string; readonly late: boolean }>
    }
    const late = rows.rows.find((row) => row.late)
    if (late !== undefined)
      world.violate(
        "late writes",
        `what ${late.message} wrote after its time was over has committed with another message`,
      )
    const names = rows.rows.map(({ message }) => message)
    const twice = names.find((name, index) => names.indexOf(name) !== index)
    if (twice !== undefined) world.violate("effect once", `${twice} took effect again`)
    return new Set(names).size
  }
  let effects = 0
  const watch = () =>
    void look().then((found) => {
      effects = found
      world.after(50, watch)
    })
  world.after(50, watch)
  return () => {
    return effects === MESSAGES && done.size >= MESSAGES && world.now() > 2500
  }
}
