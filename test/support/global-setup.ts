/** One PostgreSQL and one RabbitMQ for the whole run; every test file makes databases and destinations of its own. */
import { Effect } from "effect"
import postgres from "postgres"
import type { TestProject } from "vitest/node"
import { migrate } from "../../src/store/migrate.ts"
import { startPostgres } from "./embedded-postgres.ts"

declare module "vitest" {
  interface ProvidedContext {
    readonly postgres: string
  }
}

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const server = await startPostgres({ fsync: "off", max_prepared_transactions: "10" })
  const sql = postgres(server.url, { max: 1, onnotice: () => {} })
  await sql`CREATE DATABASE outbox_template`
  const template = postgres(server.url.replace(/\/postgres$/, "/outbox_template"), {
    max: 1,
    onnotice: () => {},
  })
  await Effect.runPromise(migrate(template))
  await template.end()
  await sql.end()
  project.provide("postgres", server.url)
  return () => server.remove()
}
