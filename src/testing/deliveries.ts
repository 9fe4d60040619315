/** Who gets what: a topic's message goes to each of its queues, a queue's to one consumer. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import * as Random from "effect/Random"
import type { Incoming, Outgoing } from "../broker/broker.ts"
import { type Admitted, admit } from "../consumer/admission.ts"
import type { Definition } from "../consumer/definition.ts"
import { type Counts, type Engine, makeEngine } from "../consumer/engine.ts"
import type { Pause } from "../consumer/pause.ts"
import type { Inbox, InboxScope } from "../inbox/inbox.ts"
import { bytesOf, wireHeadersOf } from "./published.ts"

/** A consumer of the kit. */
export interface Reader {
  readonly definition: Definition
  readonly engine: Engine
  readonly scope: InboxScope
}

export interface Delivery {
  readonly reader: Reader
  readonly admitted: Admitted
}

export const makeReader = (definition: Definition, inbox: Inbox["Service"], counts: Counts): Reader => {
  const { consumer, queue } = definition.settings
  const engine = makeEngine({
    definition,
    context: Context.empty(),
    inbox,
    pause: neverPaused,
    counts,
    onParked: () => {},
  })
  return { definition, engine, scope: { consumer, queue } }
}

/** A broker would keep what a paused consumer leaves; here nobody waits, and a database that is away ends the test. */
const neverPaused: Pause = {
  paused: () => undefined,
  gate: Effect.succeed(false),
  failed: () => true,
  succeeded: () => {},
  databaseAway: (words) => {
    throw new Error(`the database failed while messages were handled: ${words}`)
  },
  resume: () => {},
  letOneThrough: () => false,
}

/** The deliveries of one message, in the order in which its readers were added. */
export const deliveriesOf = (message: Outgoing, readers: ReadonlyArray<Reader>): ReadonlyArray<Delivery> => {
  const { destination } = message
  const queues = new Set<string>()
  const deliveries: Array<Delivery> = []
  for (const reader of readers) {
    const { settings } = reader.definition
    const queue = isQueue(destination) ? destination : settings.queue
    if (settings.destination !== destination || queues.has(queue)) continue
    queues.add(queue)
    deliveries.push({ reader, admitted: admit(incomingOf(message), settings, false, () => true) })
  }
  return deliveries
}

const isQueue = (destination: string): boolean => /^\/(amq\/)?queue\//.test(destination)

const incomingOf = (message: Outgoing): Incoming => ({
  destination: message.destination,
  headers: wireHeadersOf(message),
  body: bytesOf(message.body).slice(),
  redelivered: false,
  ack: () => {},
  nack: () => {},
})

/** Runs the engine's work: without its log, which the report replaces, and without the jitter of pauses. */
export const runQuietly = <A, E>(work: Effect.Effect<A, E>): Promise<A> =>
  Effect.runPromise(
    work.pipe(
      Effect.provideService(Random.Random, { nextIntUnsafe: () => 0, nextDoubleUnsafe: () => 0.5 }),
      Effect.provide(Logger.layer([])),
    ),
  )
