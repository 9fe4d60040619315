/** Consumers in a world of faults: one run of one seed. */
import { Clock, Context, Effect, Fiber, Layer, Logger, Schedule } from "effect"
import type { Broker } from "../../src/broker/broker.ts"
import type { Inbox } from "../../src/inbox/inbox.ts"
import type { AnyTransaction, Draft } from "../../src/outbox/append.ts"
import type { StoreError } from "../../src/store/error.ts"
import { type ConsumerPromises, makeConsumerPromises, type Try } from "./consumer-promises.ts"
import { makeDatabase } from "./database.ts"
import { inboxOver } from "./inbox-link.ts"
import { overNetwork } from "./network.ts"
import { makeProcess, type Process } from "./process.ts"
import type { ConsumerModules } from "./variant.ts"
import { type Ending, runWorld, type World } from "./world.ts"

const TIMEOUT = 300
const MAX_ATTEMPTS = 4
const CHAOS = 500
const RECOVERY = 6000
const LIMIT = RECOVERY + 60_000
const KEYS = ["a", "b", "c", "d", null]
const QUEUE = "/queue/orders"

/** Runs one seed against this copy of the source. */
export const runConsumerModel = (modules: ConsumerModules, seed: number): Promise<Ending> =>
  runWorld(seed, LIMIT, (world) => begin(modules, world))

const begin = async (modules: ConsumerModules, world: World): Promise<() => boolean> => {
  const { after, tell, random } = world
  const { below, chance } = random
  const context = await Effect.runPromise(
    Effect.scoped(Layer.build(Layer.merge(modules.memory.layerMemory, modules.memoryBroker.layerMemory()))),
  )
  const inbox = Context.get(context, modules.inbox.Inbox)
  const looking = Context.get(context, modules.memory.MemoryInbox)
  const broker = Context.get(context, modules.broker.Broker)
  const faults = Context.get(context, modules.memoryBroker.MemoryBroker)
  const promises = makeConsumerPromises(world, () => ({
    rows: Effect.runSync(looking.rows),
    emitted: Effect.runSync(looking.emitted),
  }))
  const unavailable = (): StoreError =>
    new modules.error.StoreError({ reason: "unavailable", message: "the database is away" })
  const database = makeDatabase(world, 3, unavailable)
  const elects = chance(0.5)
  const processes: { process: Process; fiber: Fiber.Fiber<never, unknown> }[] = []

  const start = () => {
    const process = makeProcess(world, `c-${processes.length + 1}`)
    tell(process.name, "begins")
    const consumer = modules.consume.consume(
      QUEUE,
      {
        consumer: "model",
        name: process.name,
        timeout: TIMEOUT,
        retry: Schedule.spaced(200),
        maxAttempts: MAX_ATTEMPTS,
        parallel: 4,
        prefetch: 20,
        pauseAfter: 4,
        drainTimeout: 400,
      },
      ({ id, tx, signal }) =>
        handle(modules, world, process, inbox, promises, () => one(process), { id, tx, signal }),
    )
    const layer = Layer.mergeAll(
      Layer.succeed(modules.inbox.Inbox, inboxOver(world, database, process, inbox)),
      Layer.succeed(
        modules.broker.Broker,
        overNetwork(world, process, broker, {
          frameMillis: 3,
          answerMillis: 3,
          lingerMillis: 400,
          profile: { elects },
        }),
      ),
      Logger.layer([
        Logger.make<unknown, void>(({ message }) => {
          if (!process.killed())
            tell(process.name, Array.isArray(message) ? message.join(" ") : String(message))
        }),
      ]),
    )
    const fiber = Effect.runFork(
      consumer.pipe(Effect.provide(layer), Effect.provideService(Clock.Clock, process.clock)),
    )
    processes.push({ process, fiber })
  }
  /** A process is killed, and another comes for it. */
  const one = (process: Process) => {
    process.kill()
    after(100 + below(800), start)
  }
  start()
  start()

  publish(world, broker, promises)

  const alive = () => processes.filter(({ process }) => !process.killed())
  const some = () => {
    const candidates = alive()
    return candidates[below(candidates.length)]!
  }
  const chaos: Array<() => void> = [
    ...[0, 1, 2].map(() => () => {
      tell("broker", "CUTS all connections")
      faults.cut()
    }),
    () => {
      tell("broker", "DOWN")
      after(100 + below(600), faults.down())
    },
    ...[0, 1, 2].map(() => () => one(some().process)),
    ...[0, 1].map(() => () => database.away(50 + below(500))),
    ...[0, 1].map(() => () => some().process.freeze(100 + below(1200))),
    () => {
      const { process, fiber } = some()
      tell(process.name, "is asked to stop")
      Effect.runFork(Fiber.interrupt(fiber))
      after(below(500), start)
    },
  ]
  for (const fault of chaos) after(CHAOS + below(RECOVERY - CHAOS), fault)
  after(RECOVERY, start)

  let seen = 0
  return () => {
    for (; seen < faults.accepted.length; seen++) promises.arrive(faults.accepted[seen]!.id)
    promises.check()
    if (world.now() < RECOVERY + 100) return false
    const open = promises.open()
    if (open.length === 0) return true
    if (world.now() >= LIMIT - 1000)
      world.violate("nothing lost", `${open.map(({ id }) => id).join(", ")} neither took effect nor died`)
    return false
  }
}

/** The user's function: it works for a while, writes its effect through `tx`, and goes wrong as planned. */
const handle = async (
  modules: ConsumerModules,
  world: World,
  process: Process,
  inbox: Inbox["Service"],
  promises: ConsumerPromises,
  kill: () => void,
  { id, tx, signal }: { readonly id: string; readonly tx: AnyTransaction; readonly signal: AbortSignal },
): Promise<void> => {
  // Also what is over its time because its process was stopped has failed.
  signal.addEventListener("abort", () => promises.failed(id), { once: true })
  const { below, chance } = world.random
  const sleep = (millis: number) => Effect.runPromise(Effect.andThen(world.sleep(millis), process.gate))
  const planned: Try | undefined = promises.begin(id)
  world.tell(process.name, `handles ${id}${planned === undefined ? "" : `, which ${planned}`}`)
  const early = chance(0.5)
  if (early) await inbox.emit(tx, effectOf(id))
  await sleep(1 + below(40))
  switch (planned) {
    case "takes its process down":
      kill()
      return sleep(1)
    case "fails":
      throw new Error("as planned")
    case "rejects":
      throw new modules.outcome.Reject({ reason: "as planned" })
    case "snoozes":
      throw new modules.outcome.Snooze({ duration: 50 + below(300) })
    case "is too slow":
      await sleep(TIMEOUT + 20 + below(200))
      // Its time is over: what it writes now must go nowhere.
      return inbox.emit(tx, effectOf(`late ${id}`))
    case undefined:
      if (!early) await inbox.emit(tx, effectOf(id))
  }
}

const effectOf = (id: string): Draft => ({
  group: 0,
  event: "effect",
  operation: "emit",
  destination: "/topic/effects",
  version: null,
  key: null,
  headers: "{}",
  contentType: "text/plain",
  body: id,
  due: null,
  timeToLive: null,
})

/** Sends messages in the order of their keys, and some of them again. */
const publish = (world: World, broker: Broker["Service"], promises: ConsumerPromises): void => {
  const { below, chance } = world.random
  const process = makeProcess(world, "sender")
  const plans: ReadonlyArray<ReadonlyArray<Try>> = [
    ["fails"],
    ["fails", "fails"],
    ["fails", "fails", "fails", "fails"],
    ["rejects"],
    ["snoozes", "fails"],
    ["is too slow"],
    ["is too slow", "is too slow"],
    ["takes its process down"],
    ["takes its process down", "takes its process down", "takes its process down"],
  ]
  const send = (id: string, key: string | null) =>
    Effect.runFork(
      Effect.scoped(
        Effect.gen(function* () {
          const connection = yield* broker.connect().pipe(Effect.retry(Schedule.spaced(20)))
          connection.send(
            [
              {
                id,
                destination: QUEUE,
                contentType: "application/json",
                body: JSON.stringify(id),
                headers: { "outbox-message-id": id, ...(key !== null && { "outbox-key": key }) },
              },
            ],
            () => {},
          )
        }),
      ).pipe(Effect.provideService(Clock.Clock, process.clock)),
    )
  let count = 0
  for (let i = 0; i < 40; i++) {
    world.after(below(RECOVERY - 1500), () => {
      const id = `m${++count}`
      const key = KEYS[below(KEYS.length)]!
      const tries = chance(0.7) ? [] : plans[below(plans.length)]!
      promises.sent({ id, key, tries })
      world.tell("sender", `sends ${id} (${key}${tries.length > 0 ? `, ${tries}` : ""})`)
      send(id, key)
      if (chance(0.2))
        world.after(below(1500), () => {
          world.tell("sender", `sends ${id} again`)
          send(id, key)
        })
    })
  }
}
