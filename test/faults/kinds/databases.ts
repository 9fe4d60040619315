/** The database, and what stands before it. */
import postgres from "postgres"
import { sleep } from "../clock.ts"
import type { Fault, Injection } from "../fault.ts"
import { framesOf, type Lab, recovery, whenInFlight } from "../lab.ts"

const rabbit = ["RabbitMQ"] as const

const away = (lab: Lab): void => {
  for (const frames of framesOf(lab)) frames.databaseAway()
}

const restart =
  (mode: "fast" | "immediate") =>
  async (lab: Lab): Promise<Injection> => {
    const inFlight = await whenInFlight(framesOf(lab))
    away(lab)
    await lab.postgres.stop(mode)
    await sleep(lab.dice.next() * 1000)
    await lab.postgres.start()
    return { inFlight, recovered: recovery(lab) }
  }

export const postgresRestart: Fault = {
  name: "postgres-restart",
  title: "PostgreSQL restarts",
  brokers: rabbit,
  recovery: 2,
  inject: restart("fast"),
}

export const postgresCrash: Fault = {
  name: "postgres-crash",
  title: "PostgreSQL crashes",
  brokers: rabbit,
  recovery: 2,
  inject: restart("immediate"),
}

const terminate = ({ sql }: Lab) => sql`
  SELECT pg_terminate_backend(pid) FROM pg_stat_activity
  WHERE datname = current_database() AND pid <> pg_backend_pid()`

export const backends: Fault = {
  name: "backends",
  title: "all backends of the database are terminated",
  brokers: rabbit,
  recovery: 2,
  inject: async (lab) => {
    const inFlight = await whenInFlight(framesOf(lab))
    away(lab)
    await terminate(lab)
    return { inFlight, recovered: recovery(lab) }
  },
}

export const exhausted: Fault = {
  name: "connections",
  title: "every connection of the database is taken by others for two seconds",
  brokers: rabbit,
  recovery: 2,
  inject: async (lab) => {
    const inFlight = await whenInFlight(framesOf(lab))
    const url = lab.postgres.url
    let over = false
    const hogs: postgres.Sql[] = []
    const hog = async () => {
      while (!over) {
        const sql = postgres(url, { max: 1, onnotice: () => {}, connect_timeout: 2, fetch_types: false })
        const taken = await sql`SELECT 1`.then(
          () => true,
          () => false,
        )
        if (taken) hogs.push(sql)
        else {
          await sql.end({ timeout: 1 })
          await sleep(20)
        }
      }
    }
    const hogging = Array.from({ length: 8 }, hog)
    await sleep(1500)
    away(lab)
    await terminate(lab)
    await sleep(2000)
    over = true
    await Promise.all(hogging)
    await Promise.all(hogs.map((sql) => sql.end({ timeout: 1 })))
    return { inFlight, recovered: recovery(lab) }
  },
}

export const pooler: Fault = {
  name: "pgbouncer",
  title: "PgBouncer in transaction mode, which restarts",
  brokers: rabbit,
  recovery: 2,
  bouncer: true,
  inject: async (lab) => {
    const inFlight = await whenInFlight(framesOf(lab))
    away(lab)
    await lab.bouncer?.stop()
    await sleep(lab.dice.next() * 1000)
    await lab.bouncer?.start()
    return { inFlight, recovered: recovery(lab) }
  },
}
