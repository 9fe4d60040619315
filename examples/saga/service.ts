/** A service: a database of its own, a relay that publishes from it, and a consumer whose handler writes to it. */
import { drizzle } from "drizzle-orm/postgres-js"
import { type Consumer, layerPostgres as layerInbox } from "drizzle-outbox/consumer"
import { layerLocal, layerPostgres as layerOutbox, migrate, Nudge, runRelay } from "drizzle-outbox/relay"
import { Effect, Layer } from "effect"
import postgres from "postgres"

/** Makes the database `name` on a server, with the outbox's tables and those of `tables`. Lives as long as its scope. */
export const openDatabase = Effect.fnUntraced(function* (server: string, name: string, tables: string) {
  const url = server.replace(/\/postgres$/, `/${name}`)
  yield* Effect.promise(async () => {
    const admin = postgres(server, { max: 1 })
    await admin.unsafe(`CREATE DATABASE ${name}`)
    await admin.end()
  })
  const sql = yield* Effect.acquireRelease(
    Effect.sync(() => postgres(url, { max: 10, onnotice: () => {} })),
    (sql) => Effect.promise(() => sql.end({ timeout: 1 })),
  )
  yield* migrate(sql)
  yield* Effect.promise(() => sql.unsafe(tables))
  return { name, url, sql, db: drizzle({ client: sql }), nudge: Nudge.local() }
})

export type Database = Effect.Success<ReturnType<typeof openDatabase>>

/** Runs relay and consumer until it is interrupted, on whatever broker there is. */
export const runService = ({ name, url, db, nudge }: Database, consumer: Consumer) =>
  Effect.all([runRelay({ name }), consumer], { concurrency: "unbounded" }).pipe(
    Effect.provide(Layer.mergeAll(layerOutbox({ url }), layerInbox(db), layerLocal(nudge))),
  )
