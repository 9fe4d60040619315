/** What a cell's processes talk to: a database server and a broker of their own, which can be taken down. */
import { startActiveMq } from "../support/activemq.ts"
import { type PostgresServer, startPostgres } from "../support/embedded-postgres.ts"
import { startRabbit } from "../support/rabbitmq.ts"

export type BrokerName = "RabbitMQ" | "ActiveMQ"

export interface BrokerServer {
  readonly name: BrokerName
  readonly url: string
  readonly managementUrl: string | undefined
  /** Ends it and starts it again on its data; resolves when it listens. Mostly politely, now and then by a kill. */
  readonly restart: (kill: boolean) => Promise<void>
  /** It loses everything that it holds. */
  readonly wipe: () => Promise<void>
  /** Holds all senders back, as a broker without memory does; RabbitMQ only. */
  readonly block: (blocked: boolean) => Promise<void>
  readonly remove: () => Promise<void>
  /** Where orders are sent to, and how somebody else hears them, too. */
  readonly topic: (name: string) => Topic
}

export interface Topic {
  readonly destination: string
  readonly observed: { readonly destination: string; readonly headers: Readonly<Record<string, string>> }
}

/** Bytes of a body from which on a broker refuses it: the poison of the harness is larger. */
export const LARGEST_BODY = 1_000_000

const startRabbitMq = async (): Promise<BrokerServer> => {
  const server = await startRabbit({ config: [`max_message_size = ${LARGEST_BODY}`] })
  return {
    name: "RabbitMQ",
    url: server.stompUrl,
    managementUrl: server.managementUrl,
    restart: async (kill) => {
      await (kill ? server.kill() : server.stop())
      await server.start()
    },
    wipe: server.wipe,
    block: async (blocked) => {
      await server.ctl("set_vm_memory_high_watermark", blocked ? "0.000001" : "0.8")
    },
    remove: server.remove,
    topic: (name) => ({
      destination: `/topic/${name}`,
      observed: {
        destination: `/topic/${name}`,
        headers: {
          "x-queue-name": `observer.${name}`,
          durable: "true",
          "auto-delete": "false",
          "prefetch-count": "1000",
        },
      },
    }),
  }
}

const startActiveMqServer = async (): Promise<BrokerServer> => {
  const server = await startActiveMq({ config: [`wireFormat.maxFrameSize=${LARGEST_BODY}`] })
  return {
    name: "ActiveMQ",
    url: server.stompUrl,
    managementUrl: undefined,
    restart: async (kill) => {
      await (kill ? server.kill() : server.stop())
      await server.start()
    },
    wipe: async () => {
      await server.kill()
      server.wipe()
      await server.start()
    },
    block: () => Promise.reject(new Error("ActiveMQ is not blocked by this harness")),
    remove: server.remove,
    topic: (name) => ({
      destination: `/topic/VirtualTopic.${name}`,
      observed: {
        destination: `/queue/Consumer.observer.VirtualTopic.${name}`,
        headers: { "activemq.prefetchSize": "1000" },
      },
    }),
  }
}

export interface Servers {
  readonly postgres: () => Promise<PostgresServer>
  readonly broker: (name: BrokerName) => Promise<BrokerServer>
  readonly remove: () => Promise<void>
}

/** Servers that start when they are first asked for, and are used by one cell at a time. */
export const makeServers = (): Servers => {
  let postgres: Promise<PostgresServer> | undefined
  const brokers = new Map<BrokerName, Promise<BrokerServer>>()
  return {
    postgres: () => {
      // What a crash of the machine would lose is not what is tried here: these are crashes of processes.
      postgres ??= startPostgres({ fsync: "off" })
      return postgres
    },
    broker: (name) => {
      const known = brokers.get(name) ?? (name === "RabbitMQ" ? startRabbitMq() : startActiveMqServer())
      brokers.set(name, known)
      return known
    },
    remove: async () => {
      const started = [...(postgres === undefined ? [] : [postgres]), ...brokers.values()]
      for (const server of await Promise.allSettled(started))
        if (server.status === "fulfilled") await server.value.remove()
    },
  }
}
