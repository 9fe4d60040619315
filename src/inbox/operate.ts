/** What operators ask of an inbox and do to it: one function a statement. */
import type { Sql } from "postgres"
import type { DeadBatch, DeadFilter, DeadPlace } from "../store/operate.ts"
import { quoteSchema } from "../store/schema-name.ts"

/** What a consumer's queue has left in the inbox. All counts are exact; each reads one partial index. */
export interface ParkedRow {
  readonly consumer: string
  readonly queue: string
  /** Messages that wait for their retry. */
  readonly parked: number
  /** Since the oldest of them arrived; undefined without one. */
  readonly oldestMillis: number | undefined
  readonly dead: number
}

/** What an instance writes of itself. */
export interface InstanceReport {
  readonly connection?: string
  readonly words?: string
  readonly paused?: { readonly reason: string; readonly words: string; readonly since: string }
  readonly running?: number
  readonly handled?: number
  readonly duplicates?: number
  readonly failed?: number
  readonly dead?: number
}

export interface InstanceRow {
  readonly id: string
  readonly consumer: string
  readonly queue: string
  readonly name: string
  readonly startedAt: Date
  /** Below zero when its lease has ended. */
  readonly leaseMillis: number
  /** It has the subscription, where the inbox decides who does. */
  readonly holds: boolean
  readonly state: InstanceReport
}

/** Which dead messages of the inbox: those that fit everything given. */
export interface InboxDeadFilter extends DeadFilter {
  readonly consumer?: string | undefined
}

export interface InboxDeadRow extends DeadPlace {
  readonly consumer: string
  readonly queue: string
  readonly id: string
  /** Where the sender said it. */
  readonly event: string | null
  readonly destination: string
  readonly key: string | null
  readonly attempts: number
  /** Times that its handler was run under watch. */
  readonly started: number
  readonly lastError: string | null
  readonly receivedAt: Date
}

/** A dead message with everything it carries. */
export interface InboxDeadMessage extends InboxDeadRow {
  readonly headers: Readonly<Record<string, string>> | null
  readonly body: Uint8Array | null
}

const table = (sql: Sql, schema: string, name: "inbox" | "consumers" | "subscriptions") =>
  sql.unsafe(`${quoteSchema(schema)}.${name}`)

/** Counts what is parked and dead, for every consumer and queue that has any. */
export const readParked = async (sql: Sql, schema: string): Promise<ReadonlyArray<ParkedRow>> => {
  const inbox = table(sql, schema, "inbox")
  const rows = (await sql.begin("READ ONLY", async (tx) => {
    // A plan without the partial indexes would read every message that was handled.
    await tx`SET LOCAL enable_seqscan = off`
    return tx`
      SELECT consumer, queue, sum(parked) AS parked, sum(dead) AS dead,
             extract(epoch FROM clock_timestamp() - min(oldest))::float8 * 1000 AS "oldestMillis"
      FROM (
        SELECT m.consumer, m.queue, count(*) AS parked, 0 AS dead, min(m.received_at) AS oldest
        FROM ${inbox} m WHERE m.state = 'parked' GROUP BY m.consumer, m.queue
        UNION ALL
        SELECT m.consumer, m.queue, 0, count(*), NULL
        FROM ${inbox} m WHERE m.state = 'dead' GROUP BY m.consumer, m.queue
      ) counted
      GROUP BY consumer, queue ORDER BY consumer, queue`
  })) as ReadonlyArray<{
    readonly consumer: string
    readonly queue: string
    readonly parked: string
    readonly dead: string
    readonly oldestMillis: number | null
  }>
  return rows.map(({ consumer, queue, parked, dead, oldestMillis }) => ({
    consumer,
    queue,
    parked: Number(parked),
    dead: Number(dead),
    oldestMillis: oldestMillis === null ? undefined : Math.max(0, oldestMillis),
  }))
}

/** Instances that live; of a consumer and queue without any, the one that was the last to. */
export const readInstances = (sql: Sql, schema: string): Promise<ReadonlyArray<InstanceRow>> => {
  const consumers = table(sql, schema, "consumers")
  return sql<InstanceRow[]>`
    SELECT c.id, c.consumer, c.queue, c.name, c.started_at AS "startedAt", c.state,
           extract(epoch FROM c.expires_at - clock_timestamp())::float8 * 1000 AS "leaseMillis",
           EXISTS (SELECT FROM ${table(sql, schema, "subscriptions")} s
                   WHERE s.consumer = c.consumer AND s.queue = c.queue AND s.holder = c.id
                     AND s.held_until > clock_timestamp()) AS holds
    FROM ${consumers} c
    WHERE c.expires_at > clock_timestamp() OR NOT EXISTS (
      SELECT FROM ${consumers} o WHERE o.consumer = c.consumer AND o.queue = c.queue
        AND (o.expires_at, o.id) > (c.expires_at, c.id))
    ORDER BY c.consumer, c.queue, c.started_at, c.id`
}

/** Dead messages by the time of their death, the newest first. */
export const readInboxDead = (
  sql: Sql,
  schema: string,
  filter: InboxDeadFilter,
  limit: number,
): Promise<ReadonlyArray<InboxDeadRow>> =>
  sql<InboxDeadRow[]>`
    SELECT ${columns(sql)} FROM ${table(sql, schema, "inbox")} m
    WHERE ${dead(sql, filter)}
    ORDER BY m.finished_at DESC, m.position DESC LIMIT ${limit}::int`

/** How many dead messages fit. */
export const countInboxDead = async (sql: Sql, schema: string, filter: InboxDeadFilter): Promise<number> => {
  const [row] = await sql<[{ found: string }]>`
    SELECT count(*) AS found FROM ${table(sql, schema, "inbox")} m WHERE ${dead(sql, filter)}`
  return Number(row.found)
}

/** Dead messages whole: one for each consumer in which a message that fits is dead. */
export const readInboxDeadMessages = (
  sql: Sql,
  schema: string,
  filter: InboxDeadFilter,
): Promise<ReadonlyArray<InboxDeadMessage>> =>
  sql<InboxDeadMessage[]>`
    SELECT ${columns(sql)}, m.headers, m.body FROM ${table(sql, schema, "inbox")} m
    WHERE ${dead(sql, filter)} ORDER BY m.finished_at, m.position`

/** Parks dead messages again, due now and with all their tries before them. Nothing that is not dead is touched. */
export const requeueInboxDead = (
  sql: Sql,
  schema: string,
  filter: InboxDeadFilter,
  batch: DeadBatch,
): Promise<ReadonlyArray<DeadPlace>> => sql<DeadPlace[]>`
    WITH chosen AS (${choose(sql, schema, filter, batch)}), requeued AS (
      UPDATE ${table(sql, schema, "inbox")} m
      SET state = 'parked', attempts = 0, started = 0, available_at = statement_timestamp(), finished_at = NULL
      FROM chosen c WHERE m.consumer = c.consumer AND m.message_id = c.message_id AND m.state = 'dead'
      RETURNING m.position, c.finished_at
    )
    SELECT r.position, r.finished_at::text AS "deadAt" FROM requeued r ORDER BY r.finished_at, r.position`

/**
 * Drops what dead messages carry and calls them handled: a repeat that comes late is recognised and has no effect, until
 * retention forgets it. Nothing that is not dead is touched.
 */
export const discardInboxDead = (
  sql: Sql,
  schema: string,
  filter: InboxDeadFilter,
  batch: DeadBatch,
): Promise<ReadonlyArray<DeadPlace>> => sql<DeadPlace[]>`
    WITH chosen AS (${choose(sql, schema, filter, batch)}), discarded AS (
      UPDATE ${table(sql, schema, "inbox")} m
      SET state = 'handled', headers = NULL, body = NULL, finished_at = statement_timestamp()
      FROM chosen c WHERE m.consumer = c.consumer AND m.message_id = c.message_id AND m.state = 'dead'
      RETURNING m.position, c.finished_at
    )
    SELECT d.position, d.finished_at::text AS "deadAt" FROM discarded d ORDER BY d.finished_at, d.position`

const columns = (sql: Sql) => sql`
  m.position, m.consumer, m.queue, m.message_id AS id, ${eventOf(sql)} AS event, m.destination, m.key,
  m.attempts, m.started, m.last_error AS "lastError", m.received_at AS "receivedAt", m.finished_at::text AS "deadAt"`

/** As a handler sees it. */
const eventOf = (sql: Sql) =>
  sql`coalesce(m.headers ->> 'outbox-event', m.headers ->> 'cap-msg-name', m.headers ->> 'dop-msg-type')`

const choose = (sql: Sql, schema: string, filter: InboxDeadFilter, { after, until, limit }: DeadBatch) => sql`
  SELECT m.consumer, m.message_id, m.position, m.finished_at FROM ${table(sql, schema, "inbox")} m
  WHERE ${dead(sql, filter)} AND m.finished_at <= ${until}::text::timestamptz
    AND (m.finished_at, m.position) > (${after?.deadAt ?? "-infinity"}::text::timestamptz, ${after?.position ?? "0"}::bigint)
  ORDER BY m.finished_at, m.position LIMIT ${limit}::int`

const dead = (sql: Sql, filter: InboxDeadFilter) => {
  const { ids, consumer = null, destination = null, event = null, key = null, error = null } = filter
  return sql`
    m.state = 'dead'
    AND (${ids === undefined}::boolean OR m.message_id IN (
      SELECT json_array_elements_text(${JSON.stringify(ids ?? [])}::text::json)))
    AND (${consumer}::text IS NULL OR m.consumer = ${consumer}::text)
    AND (${destination}::text IS NULL OR m.destination = ${destination}::text)
    AND (${event}::text IS NULL OR ${eventOf(sql)} = ${event}::text)
    AND (${key}::text IS NULL OR m.key = ${key}::text)
    AND (${error}::text IS NULL OR strpos(lower(m.last_error), lower(${error}::text)) > 0)`
}
