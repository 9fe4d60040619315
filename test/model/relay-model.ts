/** Relays in a world of faults: one run of one seed. */
import { Clock, Context, Effect, Fiber, Layer, Logger, Schedule } from "effect"
import type { Outgoing } from "../../src/broker/broker.ts"
import type { RelayReport } from "../../src/relay/relay.ts"
import type { StoreError } from "../../src/store/error.ts"
import type { MemoryTransaction, NewMessage } from "../../src/store/memory.ts"
import type { OutboxStore, Pass, StoredMessage } from "../../src/store/store.ts"
import { type Database, makeDatabase } from "./database.ts"
import { overNetwork } from "./network.ts"
import { makeProcess, type Process } from "./process.ts"
import { type Answer, makeRelayPromises, type RelayPromises, type Written } from "./relay-promises.ts"
import type { RelayModules } from "./variant.ts"
import { type Ending, runWorld, type World } from "./world.ts"

const LEASE = 1000
const MAX_ATTEMPTS = 4
/** At first writers alone are trouble; then connections are lost at the worst moments; then relays are ambushed one by one; then faults come as they like; afterwards everything must get well. */
const CUTS = 1700
const AMBUSHES = 3900
const CHAOS = 10_000
const RECOVERY = 13_000
/** By then everything must have left that can: a lease, the longest back-offs of a key, and some. */
const LIMIT = RECOVERY + 20_000
const KEYS = ["a", "b", "c", "d", "e", null]
const DESTINATIONS = ["/topic/x", "/topic/x", "/topic/x", "/topic/y"]

/** Runs one seed against this copy of the source. */
export const runRelayModel = (modules: RelayModules, seed: number): Promise<Ending> =>
  runWorld(seed, LIMIT, (world) => begin(modules, world))

const begin = async (modules: RelayModules, world: World): Promise<() => boolean> => {
  const { random, after, tell } = world
  const { below, chance } = random
  const promises = makeRelayPromises(world, MAX_ATTEMPTS)
  const pipelined = chance(0.5)
  const connections = 1 + below(3)
  const context = await Effect.runPromise(
    Effect.scoped(
      Layer.build(Layer.merge(modules.memory.layerMemory, modules.memoryBroker.layerMemory({ pipelined }))),
    ).pipe(Effect.provideService(Clock.Clock, world.clock)),
  )
  const store = Context.get(context, modules.store.OutboxStore)
  const outbox = Context.get(context, modules.memory.MemoryOutbox)
  const broker = Context.get(context, modules.broker.Broker)
  const faults = Context.get(context, modules.memoryBroker.MemoryBroker)
  const unavailable = (): StoreError =>
    new modules.error.StoreError({ reason: "unavailable", message: "the database is away" })
  const database = makeDatabase(world, 4, unavailable)
  const rows = () => Effect.runSync(outbox.rows)
  const nameAt = (position: number) =>
    String(rows().find((row) => row.position === position)?.body ?? `#${position}`)

  brokerAnswers(faults, promises, () => world.now() < troubleUntil)
  let troubleUntil = 0

  // Writers.
  const writers = makeWriters(world, promises, outbox.begin)

  // Relays.
  const relays: { process: Process; fiber: Fiber.Fiber<RelayReport, unknown> }[] = []
  /** Faults that wait for their moment: how many of each are left. */
  const traps = { send: 4, dead: 3, probe: 1, stop: 3 }
  const cutOff = new Set<string>()
  /** How each connection of any relay is cut alone; those that have ended are cut in vain. */
  const cuts: Array<() => void> = []
  const spring = (trap: keyof typeof traps) => {
    if (traps[trap] === 0 || world.now() < busyUntil) return false
    traps[trap]--
    return true
  }
  /** Other faults wait until a trap has done its work. */
  let busyUntil = 0
  const stopAWhile = (process: Process, then = 0) => {
    const millis = LEASE + 350 + below(500)
    process.freeze(millis)
    if (then > 0) busyUntil = world.now() + millis + then
  }
  const others = (process: Process) =>
    relays.some((relay) => relay.process !== process && relay.process.running())

  const stop = (process: Process, fiber: Fiber.Fiber<unknown, unknown>) => {
    promises.ask(process.name)
    Effect.runFork(Fiber.interrupt(fiber))
    after(below(1000), startRelay)
  }

  const startRelay = () => {
    const process = makeProcess(world, `relay-${relays.length + 1}`)
    tell(process.name, "begins")
    const layer = Layer.mergeAll(
      Layer.succeed(
        modules.store.OutboxStore,
        overDatabase(world, database, process, store, promises, {
          nameAt,
          rows,
          reading: (pass) => {
            // Late transactions commit while their gap is being read, and others of their keys behind them.
            writers.commitLate(({ position, key }) => {
              const lane = rows().find((row) => row.key === key)?.lane
              return (
                (lane === undefined || pass.lanes.includes(lane)) &&
                pass.gaps.some(({ low, high }) => low <= position && position <= high) &&
                chance(0.7)
              )
            })
          },
          read: (messages) => {
            // A process that is stopped between its reading and its sending, while the others give up what it has read.
            const ambushed = messages.some(({ key }) => key?.startsWith("send-"))
            if (ambushed && others(process) && spring("send")) stopAWhile(process, 100)
            // A process that is asked to stop while the answer to its reading is on its way.
            const parting = messages.some(({ key }) => key?.startsWith("stop-"))
            if (parting && others(process) && spring("stop")) stop(process, fiber)
          },
          judging: (names) => {
            // A verdict that is on its way to the database while its relay loses its lanes.
            const ambushed = names.some((name) => promises.written(name).key?.startsWith("dead-"))
            if (ambushed && others(process) && spring("dead")) stopAWhile(process, 100)
          },
        }),
      ),
      Layer.succeed(
        modules.broker.Broker,
        overNetwork(world, process, broker, {
          frameMillis: 3,
          answerMillis: 5,
          profile: { connections },
          opened: (cutIt) => cuts.push(cutIt),
          sent: (batch) => {
            promises.send(process.name, batch)
            // Both ends lose the connection while several frames are on their way, once for each group of them.
            const groups = batch.flatMap(({ headers }) => /^cut-\d+/.exec(headers["outbox-key"] ?? "") ?? [])
            const [group] = groups
            if (group !== undefined && groups.length > 1 && !cutOff.has(group) && world.now() >= busyUntil) {
              cutOff.add(group)
              return after(0, cut)
            }
            // A process that is stopped while it tries a destination that is in trouble.
            const [only] = batch
            const probing =
              batch.length === 1 && only?.destination === "/topic/y" && world.now() < troubleUntil
            if (probing && others(process) && spring("probe")) stopAWhile(process)
          },
          answered: (message, settlement) => promises.answered(process.name, message, settlement),
        }),
      ),
      modules.wakeup.layerPolling,
    )
    const fiber = Effect.runFork(
      modules.relay
        .runRelay({
          name: process.name,
          lease: LEASE,
          window: 40,
          batch: 20,
          pollInterval: 200,
          receiptTimeout: 1000,
          maxAttempts: MAX_ATTEMPTS,
          backoff: Schedule.spaced(600),
          drainTimeout: 500,
        })
        .pipe(
          Effect.provide(layer),
          Effect.provide(logTo(world, process)),
          Effect.provideService(Clock.Clock, process.clock),
        ),
    )
    relays.push({ process, fiber })
  }
  for (let i = 0; i < 3; i++) after(below(100), startRelay)

  const cut = () => {
    tell("broker", "CUTS all connections")
    faults.cut()
  }
  const alive = () => relays.filter(({ process }) => !process.killed())
  const one = () => {
    const candidates = alive()
    return candidates[below(candidates.length)]!
  }
  const chaos: Array<() => void> = [
    cut,
    cut,
    () => {
      tell("broker", "CUTS one of the latest connections")
      const latest = cuts.slice(-3 * connections)
      latest[below(latest.length)]?.()
    },
    () => {
      tell("broker", "DOWN")
      const up = faults.down()
      after(100 + below(700), up)
    },
    () => {
      tell("broker", "BLOCKED")
      const go = faults.block()
      after(100 + below(1500), go)
    },
    ...[0, 1].map(() => () => {
      tell("broker", "withholds confirmations")
      const give = faults.stall(() => chance(0.7))
      const lost = chance(0.5)
      after(50 + below(1200), () => {
        if (lost) cut()
        give()
      })
    }),
    () => {
      tell("broker", "refuses /topic/y")
      troubleUntil = world.now() + 200 + below(1200)
    },
    () => database.away(100 + below(700)),
    () => stopAWhile(one().process),
    () => one().process.freeze(below(LEASE)),
    ...[0, 1].map(() => () => {
      const { process } = one()
      if (others(process)) process.kill()
      after(below(1500), startRelay)
    }),
    () => {
      const { process, fiber } = one()
      stop(process, fiber)
    },
  ]
  const strike = (fault: () => void) => {
    if (world.now() < busyUntil) after(busyUntil - world.now() + below(400), () => strike(fault))
    else fault()
  }
  for (const fault of chaos) after(CHAOS + below(RECOVERY - CHAOS), () => strike(fault))
  // Whatever happened, somebody is there in the end.
  after(RECOVERY, startRelay)
  writers.schedule(strike)

  return () => {
    if (world.now() < RECOVERY + 100 || !writers.done()) return false
    const open = promises.open()
    if (open.length > 0) {
      if (world.now() >= LIMIT - 500)
        world.violate("nothing lost", `${open.map(({ name }) => name).join(", ")} never left`)
      return false
    }
    const unsettled = rows().filter((row) => row.publishedAt === null && row.deadAt === null)
    if (unsettled.length > 0 && world.now() >= LIMIT - 500)
      world.violate(
        "published",
        `${unsettled.map(({ body }) => body).join(", ")} left, and still count as pending`,
      )
    return unsettled.length === 0
  }
}

const logTo = (world: World, process: Process) =>
  Logger.layer([
    Logger.make<unknown, void>(({ message }) => {
      if (!process.killed())
        world.tell(process.name, Array.isArray(message) ? message.join(" ") : String(message))
    }),
  ])

/** The broker answers each sending of a message as the message's writer has planned. */
const brokerAnswers = (
  faults: {
    refuse: (
      match: (message: Outgoing) => boolean,
      refusal: { scope: "message" | "attempt" | "destination"; words: string },
    ) => () => void
  },
  promises: RelayPromises,
  inTrouble: () => boolean,
) => {
  let answer: Answer | undefined
  faults.refuse((message) => message.destination === "/topic/y" && inTrouble(), {
    scope: "destination",
    words: "not found",
  })
  faults.refuse(
    (message) => {
      answer = promises.answerTo(message)
      return answer === "never"
    },
    { scope: "message", words: "too large" },
  )
  faults.refuse(
    (message) => {
      if (answer === undefined) promises.arrive(message)
      return answer === "attempt"
    },
    { scope: "attempt", words: "not now" },
  )
}

/** A transaction that is written and has not committed. */
interface Late {
  readonly position: number
  readonly key: string | null
  readonly commit: () => void
}

/** Transactions that commit, roll back and commit late, with others of the same key right behind them. */
const makeWriters = (world: World, promises: RelayPromises, begin: Effect.Effect<MemoryTransaction>) => {
  const { after, tell, random } = world
  const { below, chance } = random
  const late = new Set<Late>()
  let transactions = 0
  let messages = 0
  let open = 0
  const run = <A>(effect: Effect.Effect<A>): A =>
    Effect.runSync(Effect.provideService(effect, Clock.Clock, world.clock))
  const keyOf = () => KEYS[below(KEYS.length)]!
  const destinationOf = () => DESTINATIONS[below(DESTINATIONS.length)]!
  const answersOf = (): ReadonlyArray<Answer> => {
    if (world.now() < AMBUSHES || chance(0.7)) return []
    const kinds: ReadonlyArray<ReadonlyArray<Answer>> = [
      ["never"],
      ["never"],
      ["never", "attempt", "attempt", "attempt", "attempt"],
      ["attempt"],
      ["attempt", "attempt"],
      ["attempt", "attempt", "attempt", "attempt"],
    ]
    return kinds[below(kinds.length)]!
  }

  const make = () => {
    const tx = run(begin)
    const transaction = ++transactions
    const own: Written[] = []
    /** When the write of the next message began, if it has. */
    let drawn: number | undefined
    open++
    return {
      draw: () => {
        drawn = promises.moment()
        run(tx.draw)
      },
      append: (destination: string, key: string | null, answers = answersOf()) => {
        const delayed = answers.length === 0 && KEYS.includes(key) && chance(0.04)
        const message: Written = {
          name: `m${++messages}`,
          destination,
          key,
          delayed,
          transaction,
          place: own.length,
          answers,
          began: drawn ?? promises.moment(),
          committed: undefined,
          visible: false,
        }
        drawn = undefined
        own.push(message)
        promises.write(message)
        const row: NewMessage = {
          event: "e",
          destination,
          key,
          body: message.name,
          ...(delayed && { availableAt: world.now() + below(500) }),
        }
        const position = run(tx.append(row))
        tell(
          "writer",
          `t${transaction} writes ${message.name} at ${position} (${destination}, ${key}${answers.length > 0 ? `, ${answers}` : ""})`,
        )
        return position
      },
      commit: () => {
        open--
        run(tx.commit)
        for (const message of own) {
          message.visible = true
          message.committed = promises.moment()
        }
        tell("writer", `t${transaction} commits ${own.map(({ name }) => name)}`)
      },
      rollback: () => {
        open--
        run(tx.rollback)
        tell("writer", `t${transaction} rolls back ${own.map(({ name }) => name)}`)
      },
    }
  }
  const plain = () => {
    const tx = make()
    const destination = destinationOf()
    const key = keyOf()
    for (let i = 1 + below(3); i > 0; i--)
      tx.append(chance(0.7) ? destination : destinationOf(), chance(0.7) ? key : keyOf())
    after(below(5), chance(0.1) ? tx.rollback : tx.commit)
  }
  /** Its position is drawn long before it commits; another of its key is written as soon as it has. */
  const slow = (own: boolean) => {
    const tx = make()
    const destination = own ? "/topic/x" : destinationOf()
    const key = own ? `late-${transactions}` : KEYS[below(KEYS.length - 1)]!
    const written = () => {
      const position = tx.append(destination, key, [])
      const entry: Late = {
        position,
        key,
        commit: () => {
          if (!late.delete(entry)) return
          if (chance(0.1)) return tx.rollback()
          tx.commit()
          const chase = make()
          chase.append(destination, key, [])
          chase.commit()
        },
      }
      late.add(entry)
      after(50 + below(900), entry.commit)
    }
    const rest = chance(0.4) ? 0 : 200 + below(400)
    if (rest > 0) tx.draw()
    after(rest, written)
    plain()
  }
  const alone = (messages: ReadonlyArray<readonly [key: string, answers: ReadonlyArray<Answer>]>) => {
    const tx = make()
    for (const [key, answers] of messages) tx.append("/topic/x", key, answers)
    tx.commit()
  }
  return {
    /** `strike` waits until no trap is at work. */
    schedule: (strike: (what: () => void) => void) => {
      for (let i = 0; i < 50; i++) after(below(RECOVERY - 1000), plain)
      for (let i = 0; i < 14; i++) after(300 + below(CUTS - 1000), () => slow(true))
      for (let i = 0; i < 8; i++) after(CUTS + below(RECOVERY - CUTS - 1000), () => slow(false))
      // What ambushes wait for has keys of its own, so that nothing else holds it back.
      for (const at of [0, 450, 900, 1350, 5500, 7000].map((millis) => CUTS + millis)) {
        const four = [0, 1, 2, 3].map((i) => `cut-${at}-${i}`)
        after(at + below(80), () => alone([...four, ...four].map((key) => [key, []])))
      }
      for (const at of [AMBUSHES - 600, AMBUSHES - 400, AMBUSHES - 200, CHAOS - 200]) {
        after(at, () => alone([[`hold-${at}`, ["attempt"]]]))
        after(at + 100, () => alone([[`hold-${at}`, []]]))
      }
      for (const at of [AMBUSHES, AMBUSHES + 3900, CHAOS + 400, CHAOS + 1800])
        after(at, () => strike(() => alone([[`send-${at}`, ["never"]]])))
      for (const at of [AMBUSHES + 1200, AMBUSHES + 2600, AMBUSHES + 3300, CHAOS + 1400, CHAOS + 2200])
        after(at, () => strike(() => alone([[`stop-${at}`, []]])))
      const refusals: ReadonlyArray<Answer> = ["never", "attempt", "attempt", "attempt", "attempt"]
      for (const at of [AMBUSHES + 2000, CHAOS + 1000, CHAOS + 2500])
        after(at, () => strike(() => alone([[`dead-${at}`, refusals]])))
    },
    /** Of the late ones, those commit now that are asked for. */
    commitLate: (asked: (late: Late) => boolean) => {
      for (const entry of [...late]) if (asked(entry)) entry.commit()
    },
    done: () => open === 0,
  }
}

const overDatabase = (
  world: World,
  database: Database,
  process: Process,
  store: OutboxStore["Service"],
  promises: RelayPromises,
  hooks: {
    readonly nameAt: (position: number) => string
    readonly rows: () => ReadonlyArray<{ readonly position: number; readonly body: string | Uint8Array }>
    readonly reading: (pass: Pass) => void
    readonly read: (messages: ReadonlyArray<StoredMessage>) => void
    readonly judging: (names: ReadonlyArray<string>) => void
  },
): OutboxStore["Service"] => {
  let held = 0
  const told = (what: string, messages: ReadonlyArray<StoredMessage>) => {
    if (messages.length > 0) world.tell(process.name, `${what} ${messages.map(({ body }) => body).join(" ")}`)
  }
  const send = <A, E>(work: Effect.Effect<A, E>, before?: () => void, after?: (value: A) => void) =>
    database.statement(process, Effect.provideService(work, Clock.Clock, world.clock), {
      ...(before && { before }),
      ...(after && { after }),
    })
  return {
    open: send(store.open),
    tick: (tick) =>
      send(store.tick(tick), undefined, (share) => {
        promises.share(share)
        if (share.lanes.size !== held) world.tell(process.name, `has ${share.lanes.size} lanes`)
        held = share.lanes.size
      }),
    release: (relay, lanes) => send(store.release(relay, lanes)),
    read: (pass) =>
      send(store.read(pass), undefined, ({ seen }) => {
        const messages = seen.flatMap(({ message }) => (message === undefined ? [] : [message]))
        told("reads", messages)
        hooks.reading(pass)
        hooks.read(messages)
      }),
    writers: send(store.writers),
    refused: (lanes) => send(store.refused(lanes)),
    promote: (lanes, limit) => send(store.promote(lanes, limit), undefined, (due) => told("promotes", due)),
    published: (positions, keep) =>
      send(store.published(positions, keep), () => {
        if (!process.running()) return
        promises.publish(
          process.name,
          hooks.rows().filter((row) => positions.includes(row.position)) as never,
        )
      }),
    judge: (verdicts) =>
      send(
        store.judge(verdicts),
        () => {
          const dead = verdicts.filter(({ fate }) => fate === "dead")
          hooks.judging(dead.map(({ position }) => hooks.nameAt(position)))
        },
        (done) => promises.judged(process.name, verdicts, done, hooks.nameAt),
      ),
    purge: (request) => send(store.purge(request)),
    counts: send(store.counts),
  }
}
