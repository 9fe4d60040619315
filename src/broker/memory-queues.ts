/** The queues of the memory broker: routing, prefetch, acknowledgement, redelivery. */
import type { Incoming, Outgoing, Subscription } from "./broker.ts"

interface Stored {
  readonly message: Outgoing
  redelivered: boolean
}

interface Consumer {
  readonly queue: Queue
  readonly prefetch: number
  readonly exclusive: boolean
  readonly deliver: (message: Incoming) => void
  /** By order of delivery. */
  readonly unacked: Set<Stored>
  live: boolean
}

interface Queue {
  ready: Array<Stored>
  readonly consumers: Array<Consumer>
  scheduled: boolean
}

/** The subscriptions of one connection. */
export interface Session {
  /** Returns how to unsubscribe, by which what was not acknowledged goes back to its queue. */
  readonly subscribe: (subscription: Subscription, deliver: (message: Incoming) => void) => () => void
  readonly end: () => void
}

export interface Queues {
  readonly route: (message: Outgoing) => void
  readonly session: () => Session
  /** Deletes the named queue of a topic and its binding; says why not. */
  readonly forget: (subscription: Subscription) => string | undefined
}

const isQueue = (destination: string) =>
  destination.startsWith("/queue/") || destination.startsWith("/amq/queue/")

const utf8 = new TextEncoder()
const bytesOf = (body: string | Uint8Array) => (typeof body === "string" ? utf8.encode(body) : body.slice())

export const makeQueues = (): Queues => {
  const named = new Map<string, Queue>()
  const bindings = new Map<string, Set<Queue>>()

  const newQueue = (): Queue => ({ ready: [], consumers: [], scheduled: false })
  const queueNamed = (name: string) => {
    const found = named.get(name)
    if (found !== undefined) return found
    const queue = newQueue()
    named.set(name, queue)
    return queue
  }
  const boundTo = (destination: string) => {
    const found = bindings.get(destination)
    if (found !== undefined) return found
    const queues = new Set<Queue>()
    bindings.set(destination, queues)
    return queues
  }

  const hand = (consumer: Consumer, stored: Stored) => {
    const { message, redelivered } = stored
    consumer.unacked.add(stored)
    consumer.deliver({
      destination: message.destination,
      headers: {
        ...message.headers,
        destination: message.destination,
        "content-type": message.contentType,
        ...(redelivered && { redelivered: "true" }),
      },
      body: bytesOf(message.body),
      redelivered,
      ack: () => {
        if (consumer.live && consumer.unacked.delete(stored)) schedule(consumer.queue)
      },
      nack: () => {
        if (consumer.live && consumer.unacked.delete(stored)) giveBack(consumer.queue, [stored])
      },
    })
  }
  const drain = (queue: Queue) => {
    queue.scheduled = false
    while (queue.ready.length > 0) {
      const elected = queue.consumers.find(({ exclusive }) => exclusive)
      const candidates = elected === undefined ? queue.consumers : [elected]
      const consumer = candidates.find(({ unacked, prefetch }) => unacked.size < prefetch)
      if (consumer === undefined) return
      // Round robin: the one that was served goes to the end.
      if (elected === undefined && queue.consumers.length > 1)
        queue.consumers.push(...queue.consumers.splice(queue.consumers.indexOf(consumer), 1))
      hand(consumer, queue.ready.shift() as Stored)
    }
  }
  const schedule = (queue: Queue) => {
    if (queue.scheduled) return
    queue.scheduled = true
    setImmediate(drain, queue)
  }
  const giveBack = (queue: Queue, returned: ReadonlyArray<Stored>) => {
    for (const stored of returned) stored.redelivered = true
    queue.ready = [...returned, ...queue.ready]
    schedule(queue)
  }
  const put = (queue: Queue, message: Outgoing) => {
    queue.ready.push({ message, redelivered: false })
    schedule(queue)
  }

  return {
    route: (message) => {
      if (isQueue(message.destination)) put(queueNamed(message.destination), message)
      else for (const queue of bindings.get(message.destination) ?? []) put(queue, message)
    },
    forget: ({ destination, queue: name }) => {
      if (isQueue(destination) || name === undefined) return "only the named queue of a topic can be deleted"
      const queue = named.get(`/queue/${name}`)
      if (queue === undefined) return undefined
      if (queue.consumers.length > 0) return `somebody is subscribed to the queue ${name}`
      named.delete(`/queue/${name}`)
      for (const queues of bindings.values()) queues.delete(queue)
      return undefined
    },
    session: () => {
      const consumers = new Set<Consumer>()
      const leave = (consumer: Consumer) => {
        const at = consumer.queue.consumers.indexOf(consumer)
        if (at >= 0) consumer.queue.consumers.splice(at, 1)
        consumer.live = false
        giveBack(consumer.queue, [...consumer.unacked])
        consumer.unacked.clear()
      }
      return {
        subscribe: ({ destination, queue: name, prefetch = 100, exclusive = false }, deliver) => {
          const queue = isQueue(destination)
            ? queueNamed(destination)
            : name === undefined
              ? newQueue()
              : queueNamed(`/queue/${name}`)
          if (!isQueue(destination)) boundTo(destination).add(queue)
          const consumer: Consumer = { queue, prefetch, exclusive, deliver, unacked: new Set(), live: true }
          consumers.add(consumer)
          queue.consumers.push(consumer)
          schedule(queue)
          return () => {
            consumers.delete(consumer)
            leave(consumer)
            if (name === undefined) bindings.get(destination)?.delete(queue)
          }
        },
        end: () => {
          for (const consumer of consumers) leave(consumer)
          for (const queues of bindings.values()) {
            for (const queue of queues) {
              if (queue.consumers.length === 0 && ![...named.values()].includes(queue)) queues.delete(queue)
            }
          }
        },
      }
    },
  }
}
