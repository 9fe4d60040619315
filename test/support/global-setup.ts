/** One PostgreSQL, one RabbitMQ and one ActiveMQ for the whole run; every test file makes databases and destinations of its own. */
import { accessSync, constants, statfsSync } from "node:fs"
import { Effect } from "effect"
import postgres from "postgres"
import type { TestProject } from "vitest/node"
import { migrate } from "../../src/store/migrate.ts"
import { startActiveMq } from "./activemq.ts"
import { startPostgres } from "./embedded-postgres.ts"
import { startRabbit } from "./rabbitmq.ts"

declare module "vitest" {
  interface ProvidedContext {
    /** URL of the server's "postgres" database. */
    readonly postgres: string
    readonly activemq: { readonly stompUrl: string }
    readonly rabbitmq: { readonly stompUrl: string; readonly wsUrl: string; readonly managementUrl: string }
  }
}

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const [server, rabbit, activemq] = await Promise.all([
    startPostgresWithTemplate(),
    startRabbit(),
    startActiveMq(),
  ])
  project.provide("postgres", server.url)
  const { stompUrl, wsUrl, managementUrl } = rabbit
  project.provide("rabbitmq", { stompUrl, wsUrl, managementUrl })
  project.provide("activemq", { stompUrl: activemq.stompUrl })
  return async () => {
    await Promise.all([server.remove(), rabbit.remove(), activemq.remove()])
  }
}

/** Bytes that a run's databases and their WAL never reach. */
const ROOM = 4 * 2 ** 30

/** The file system in memory where there is one with room: some file systems take a quarter of a second for a database's 300 files. */
const roomInMemory = (): string | undefined => {
  try {
    const { bavail, bsize } = statfsSync("/dev/shm")
    accessSync("/dev/shm", constants.W_OK)
    return bavail * bsize >= ROOM ? "/dev/shm" : undefined
  } catch {
    return undefined
  }
}

/** The server of OUTBOX_TEST_DATABASE_URL (a superuser's URL of its database "postgres"), else one of our own. */
const startPostgresWithTemplate = async () => {
  const given = process.env["OUTBOX_TEST_DATABASE_URL"]
  const server =
    given === undefined || given === ""
      ? await startPostgres({ fsync: "off", max_prepared_transactions: "10" }, roomInMemory())
      : { url: given, remove: async () => {} }
  const sql = postgres(server.url, { max: 1, onnotice: () => {} })
  await sql`DROP DATABASE IF EXISTS outbox_template`
  await sql`CREATE DATABASE outbox_template`
  await sql.end()
  const template = postgres(server.url.replace(/\/postgres$/, "/outbox_template"), {
    max: 1,
    onnotice: () => {},
  })
  await Effect.runPromise(migrate(template))
  await template.end()
  return server
}
