/** The servers of a question, fresh and its own, and what a result must say of them. */
import { arch, cpus, totalmem } from "node:os"
import { migrate } from "drizzle-outbox/relay"
import { Effect } from "effect"
import postgres from "postgres"
import { type PostgresServer, startPostgres } from "../../test/support/embedded-postgres.ts"
import { rawStomp } from "../../test/support/stomp-client.ts"

export interface Database {
  readonly server: PostgresServer
  readonly url: string
  /** A pool of the bench's own. */
  readonly sql: postgres.Sql
  /** Makes another database of that name, migrated, and gives its URL. */
  readonly another: (name: string) => Promise<string>
  /** Versions and every setting of PostgreSQL that is not the default. */
  readonly settings: Readonly<Record<string, unknown>>
  readonly remove: () => Promise<void>
}

/** How the bench reaches its server, which changes nothing of what is measured. */
const ADDRESS = ["port", "listen_addresses", "unix_socket_directories", "data_directory"]

/** A PostgreSQL with default settings except `shared_buffers` of 512 MB (and what is given), migrated. */
export const startDatabase = async (settings: Readonly<Record<string, string>> = {}): Promise<Database> => {
  const server = await startPostgres({ shared_buffers: "512MB", max_connections: "100", ...settings })
  const open = (url: string) =>
    postgres(url, { onnotice: () => {}, connection: { application_name: "bench" } })
  const sql = open(server.url)
  try {
    await Effect.runPromise(migrate(sql))
    const [version] = await sql<[{ server_version: string }]>`SHOW server_version`
    const changed = await sql<{ name: string; value: string }[]>`
      SELECT name, current_setting(name) AS value FROM pg_settings
      WHERE source = 'command line' AND setting IS DISTINCT FROM boot_val AND name <> ALL(${ADDRESS}) ORDER BY name`
    return {
      server,
      url: server.url,
      sql,
      another: async (name) => {
        await sql.unsafe(`CREATE DATABASE ${name}`)
        const url = server.url.replace(/\/postgres$/, `/${name}`)
        const its = open(url)
        await Effect.runPromise(migrate(its))
        await its.end()
        return url
      },
      settings: {
        node: process.version,
        postgresql: version.server_version,
        postgresqlSettings: Object.fromEntries(changed.map(({ name, value }) => [name, value])),
      },
      remove: async () => {
        await sql.end()
        await server.remove()
      },
    }
  } catch (error) {
    await sql.end()
    await server.remove()
    throw error
  }
}

/** What a STOMP broker calls itself, such as `RabbitMQ/4.0.5`. */
export const brokerVersion = async (stompUrl: string): Promise<string> => {
  const client = await rawStomp(stompUrl)
  client.close()
  return client.connected.headers["server"] ?? "unknown"
}

/** The machine that the figures were seen on. */
export const machine = (): string => {
  const processors = cpus()
  return `${processors.length} × ${processors[0]?.model.trim() ?? arch()}, ${Math.round(totalmem() / 2 ** 30)} GB`
}
