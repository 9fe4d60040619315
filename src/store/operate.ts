/** What operators ask of an outbox and do to it: one function a statement. */
import type { Sql } from "postgres"
import { quoteSchema } from "./schema-name.ts"

/** What waits, and what has been given up. All counts are exact; each reads one partial index. */
export interface BacklogRow {
  /** Pending messages. */
  readonly pending: number
  /** Those of them that are not due yet: delayed, or backing off. */
  readonly notDue: number
  /** Those of them that were refused before. */
  readonly refused: number
  readonly dead: number
  /** Age of the oldest pending message that is due or was refused; undefined without one. */
  readonly oldestMillis: number | undefined
}

/** A message that was refused and waits for its next attempt. */
export interface RefusedRow {
  readonly id: string
  readonly event: string
  readonly destination: string
  readonly key: string | null
  readonly attempts: number
  readonly lastError: string | null
  readonly nextAttemptAt: Date | null
}

/** What a relay writes of itself. */
export interface RelayReportRow {
  readonly broker?: {
    readonly profile?: string
    readonly server?: string
    readonly state?: string
    readonly words?: string
  }
  readonly heldDestinations?: ReadonlyArray<{
    readonly destination: string
    readonly since: string
    readonly words: string
  }>
  readonly inFlight?: number
  readonly publishedTotal?: number
}

export interface RelayRow {
  readonly id: string
  readonly name: string
  readonly startedAt: Date
  /** Below zero when the lease has ended. */
  readonly leaseMillis: number
  readonly lanes: ReadonlyArray<number>
  readonly state: RelayReportRow
}

/** Which dead messages: those that fit everything given. */
export interface DeadFilter {
  readonly ids?: ReadonlyArray<string> | undefined
  readonly destination?: string | undefined
  readonly event?: string | undefined
  readonly key?: string | undefined
  /** A part of the last error, upper and lower case alike. */
  readonly error?: string | undefined
}

/** A place in the order of deaths. */
export interface DeadPlace {
  readonly position: string
  /** PostgreSQL's own text: a `Date` would lose the microseconds. */
  readonly deadAt: string
}

export interface DeadRow extends DeadPlace {
  readonly id: string
  readonly event: string
  readonly destination: string
  readonly key: string | null
  readonly attempts: number
  readonly lastError: string | null
  readonly createdAt: Date
}

/** A dead message with everything it carries. */
export interface DeadMessage extends DeadRow {
  readonly eventId: string
  readonly operation: string
  readonly version: string | null
  readonly headers: Readonly<Record<string, string>>
  readonly contentType: string
  readonly body: string | null
  readonly bodyBytes: Uint8Array | null
  readonly expiresAt: Date | null
}

const messages = (sql: Sql, schema: string) => sql.unsafe(`${quoteSchema(schema)}.messages`)

/** Counts what is pending and dead. */
export const readBacklog = async (sql: Sql, schema: string): Promise<BacklogRow> => {
  const table = messages(sql, schema)
  return sql.begin("READ ONLY", async (tx) => {
    // A plan without the partial indexes would read every published message.
    await tx`SET LOCAL enable_seqscan = off`
    const [row] = await tx<[Record<keyof BacklogRow, string> & { oldestMillis: number | null }]>`
      WITH counted AS (
        SELECT (SELECT count(*) FROM ${table} m
                WHERE m.published_at IS NULL AND m.dead_at IS NULL AND m.available_at IS NULL) AS ready,
               (SELECT count(*) FROM ${table} m
                WHERE m.published_at IS NULL AND m.dead_at IS NULL AND m.available_at IS NOT NULL) AS scheduled,
               (SELECT count(*) FROM ${table} m
                WHERE m.published_at IS NULL AND m.dead_at IS NULL AND m.available_at > now()) AS later,
               (SELECT count(*) FROM ${table} m
                WHERE m.published_at IS NULL AND m.dead_at IS NULL AND m.attempts > 0) AS refused,
               (SELECT count(*) FROM ${table} m WHERE m.dead_at IS NOT NULL) AS dead,
               least(
                 (SELECT m.created_at FROM ${table} m
                  WHERE m.published_at IS NULL AND m.dead_at IS NULL AND m.available_at IS NULL
                  ORDER BY m.position LIMIT 1),
                 (SELECT m.created_at FROM ${table} m
                  WHERE m.published_at IS NULL AND m.dead_at IS NULL AND m.attempts > 0 ORDER BY m.position LIMIT 1),
                 (SELECT m.available_at FROM ${table} m
                  WHERE m.published_at IS NULL AND m.dead_at IS NULL AND m.available_at <= now()
                  ORDER BY m.available_at LIMIT 1)
               ) AS oldest
      )
      SELECT ready + scheduled AS pending, later AS "notDue", refused, dead,
             extract(epoch FROM clock_timestamp() - oldest)::float8 * 1000 AS "oldestMillis"
      FROM counted`
    return {
      pending: Number(row.pending),
      notDue: Number(row.notDue),
      refused: Number(row.refused),
      dead: Number(row.dead),
      oldestMillis: row.oldestMillis === null ? undefined : Math.max(0, row.oldestMillis),
    }
  }) as Promise<BacklogRow>
}

/** The refused messages that wait, lowest position first. */
export const readRefused = (sql: Sql, schema: string, limit: number): Promise<ReadonlyArray<RefusedRow>> =>
  sql<RefusedRow[]>`
    SELECT m.id, m.event, m.destination, m.key, m.attempts, m.last_error AS "lastError", m.available_at AS "nextAttemptAt"
    FROM ${messages(sql, schema)} m
    WHERE m.published_at IS NULL AND m.dead_at IS NULL AND m.attempts > 0
    ORDER BY m.position LIMIT ${limit}::int`

/** How many pending messages bear the words of a refusal: their own, or their destination's. */
export const countHeld = async (sql: Sql, schema: string): Promise<number> => {
  const [row] = await sql<[{ held: string }]>`
    SELECT count(*) AS held FROM ${messages(sql, schema)} m
    WHERE m.published_at IS NULL AND m.dead_at IS NULL AND m.last_error IS NOT NULL`
  return Number(row.held)
}

/** Relays that live, or that still own lanes, and their lanes. */
export const readRelays = (sql: Sql, schema: string): Promise<ReadonlyArray<RelayRow>> => {
  const quoted = quoteSchema(schema)
  return sql<RelayRow[]>`
    SELECT r.id, r.name, r.started_at AS "startedAt", r.state,
           extract(epoch FROM r.expires_at - clock_timestamp())::float8 * 1000 AS "leaseMillis",
           coalesce(json_agg(l.lane ORDER BY l.lane) FILTER (WHERE l.lane IS NOT NULL), '[]') AS lanes
    FROM ${sql.unsafe(`${quoted}.relays`)} r
    LEFT JOIN ${sql.unsafe(`${quoted}.lanes`)} l ON l.relay_id = r.id
    GROUP BY r.id
    HAVING r.expires_at > clock_timestamp() OR count(l.lane) > 0
    ORDER BY r.started_at, r.id`
}

/** Dead messages by the time of their death, the newest first. */
export const readDead = (
  sql: Sql,
  schema: string,
  filter: DeadFilter,
  limit: number,
): Promise<ReadonlyArray<DeadRow>> =>
  sql<DeadRow[]>`
    SELECT m.position, m.id, m.event, m.destination, m.key, m.attempts, m.last_error AS "lastError",
           m.created_at AS "createdAt", m.dead_at::text AS "deadAt"
    FROM ${messages(sql, schema)} m
    WHERE ${dead(sql, filter)}
    ORDER BY m.dead_at DESC, m.position DESC LIMIT ${limit}::int`

/** How many dead messages fit. */
export const countDead = async (sql: Sql, schema: string, filter: DeadFilter): Promise<number> => {
  const [row] = await sql<[{ found: string }]>`
    SELECT count(*) AS found FROM ${messages(sql, schema)} m WHERE ${dead(sql, filter)}`
  return Number(row.found)
}

/** One dead message, whole. */
export const readDeadMessage = async (
  sql: Sql,
  schema: string,
  id: string,
): Promise<DeadMessage | undefined> => {
  const [row] = await sql<DeadMessage[]>`
    SELECT m.position, m.id, m.event, m.event_id AS "eventId", m.operation, m.destination, m.version, m.key, m.headers,
           m.content_type AS "contentType", m.body, m.body_bytes AS "bodyBytes", m.attempts, m.last_error AS "lastError",
           m.created_at AS "createdAt", m.expires_at AS "expiresAt", m.dead_at::text AS "deadAt"
    FROM ${messages(sql, schema)} m
    WHERE m.dead_at IS NOT NULL AND m.id = ${id}::uuid`
  return row
}

/** The database's clock now, as the place behind every death so far. */
export const readNow = async (sql: Sql): Promise<string> => {
  const [row] = await sql<[{ now: string }]>`SELECT clock_timestamp()::text AS now`
  return row.now
}

/** A part of a sweep over the dead: what died until `until`, behind `after`. */
export interface DeadBatch {
  readonly after: DeadPlace | undefined
  readonly until: string
  readonly limit: number
}

/** Makes dead messages due again under their ids, the earliest death first. Nothing that is not dead is touched. */
export const requeueDead = (
  sql: Sql,
  schema: string,
  filter: DeadFilter,
  batch: DeadBatch,
): Promise<ReadonlyArray<DeadPlace>> => {
  const table = messages(sql, schema)
  return sql<DeadPlace[]>`
    WITH chosen AS (${choose(sql, schema, filter, batch)}), requeued AS (
      UPDATE ${table} m SET dead_at = NULL, attempts = 0, available_at = statement_timestamp(),
             expires_at = CASE WHEN m.expires_at > statement_timestamp() THEN m.expires_at END
      FROM chosen c WHERE m.position = c.position AND m.dead_at IS NOT NULL
      RETURNING m.position, c.dead_at
    )
    SELECT r.position, r.dead_at::text AS "deadAt" FROM requeued r ORDER BY r.dead_at, r.position`
}

/** Deletes dead messages, the earliest death first. Nothing that is not dead is touched. */
export const discardDead = (
  sql: Sql,
  schema: string,
  filter: DeadFilter,
  batch: DeadBatch,
): Promise<ReadonlyArray<DeadPlace>> => {
  const table = messages(sql, schema)
  return sql<DeadPlace[]>`
    WITH chosen AS (${choose(sql, schema, filter, batch)}), discarded AS (
      DELETE FROM ${table} m USING chosen c WHERE m.position = c.position AND m.dead_at IS NOT NULL
      RETURNING m.position, c.dead_at
    )
    SELECT d.position, d.dead_at::text AS "deadAt" FROM discarded d ORDER BY d.dead_at, d.position`
}

const choose = (sql: Sql, schema: string, filter: DeadFilter, { after, until, limit }: DeadBatch) => sql`
  SELECT m.position, m.dead_at FROM ${messages(sql, schema)} m
  WHERE ${dead(sql, filter)} AND m.dead_at <= ${until}::text::timestamptz
    AND (m.dead_at, m.position) > (${after?.deadAt ?? "-infinity"}::text::timestamptz, ${after?.position ?? "0"}::bigint)
  ORDER BY m.dead_at, m.position LIMIT ${limit}::int`

const dead = (sql: Sql, filter: DeadFilter) => {
  const { ids, destination = null, event = null, key = null, error = null } = filter
  return sql`
    m.dead_at IS NOT NULL
    AND (${ids === undefined}::boolean OR m.id = ANY(${`{${(ids ?? []).join(",")}}`}::text::uuid[]))
    AND (${destination}::text IS NULL OR m.destination = ${destination}::text)
    AND (${event}::text IS NULL OR m.event = ${event}::text)
    AND (${key}::text IS NULL OR m.key = ${key}::text)
    AND (${error}::text IS NULL OR strpos(lower(m.last_error), lower(${error}::text)) > 0)`
}
