/** The relay's SQL: one function a statement, named by what it does. */
import type { Sql } from "postgres"
import { type MessageRow, messageColumns, messageReader } from "./message-row.ts"
import { quoteSchema } from "./schema-name.ts"
import {
  type Counts,
  LANES,
  type Pass,
  type PassResult,
  type PurgeRequest,
  type PurgeResult,
  type RefusedMessage,
  type Seen,
  type Share,
  type StoredMessage,
  type Tick,
  type Verdict,
} from "./store.ts"

/** A read looks at so many times its limit of positions at the most, however few lanes it is for. */
const MOST_REACH = 16

/** What a read says of a position besides its message. */
interface Marks {
  readonly position: string
  readonly missing: string | null
  /** At the last position above the cursor that was looked at: how many have been. */
  readonly counted: string | null
  /** The bytes are used up. */
  readonly spent: true | null
}

/** Statements on the tables of `schema`, each prepared once a connection. */
export const makeStatements = (sql: Sql, schema: string) => {
  const quoted = quoteSchema(schema)
  const messages = sql.unsafe(`${quoted}.messages`)
  const relays = sql.unsafe(`${quoted}.relays`)
  const lanes = sql.unsafe(`${quoted}.lanes`)
  const pending = sql.unsafe("m.published_at IS NULL AND m.dead_at IS NULL")
  const ready = sql.unsafe("m.published_at IS NULL AND m.dead_at IS NULL AND m.available_at IS NULL")
  // An UPDATE that touches no column of a generated one makes PostgreSQL 18 parse the generated one's expression again for
  // each row: 5 of its 12 microseconds. This names one and changes nothing.
  const generated = sql.unsafe("key = m.key")
  const lanesOf = (pass: Pass) => sql`(${maskOf(pass.lanes)}::bigint >> m.lane) & 1 = 1`

  /** So many positions a read above the cursor looks at: as many as have its limit of messages in its share of the lanes. */
  const reachOf = (pass: Pass) => Math.ceil(pass.limit * Math.min(MOST_REACH, LANES / pass.lanes.length))
  /** More rows than a read gives, unless gaps give more than their share. */
  const mostOf = (pass: Pass) => 2 * reachOf(pass) + pass.limit

  /**
   * Gives the messages among `candidates`, as many as the pass's limits allow, and what they say of the others: of a position
   * that before its message, so that no limit comes between the two.
   */
  const cut = async (pass: Pass, candidates: ReturnType<Sql>): Promise<PassResult> => {
    const rows = await sql<ReadonlyArray<Partial<MessageRow> & Marks>>`
      SELECT w.position, w.missing, w.counted, nullif(w.total >= ${pass.bytes}::bigint, false) AS spent,
             ${sql.unsafe(messageColumns("w", "w.taken"))}
      FROM (
        SELECT c.*, b.size, sum(b.size) OVER (ORDER BY c.position, c.taken ROWS UNBOUNDED PRECEDING) AS total
        FROM (${candidates}) c
        CROSS JOIN LATERAL (
          SELECT CASE WHEN c.taken THEN coalesce(octet_length(c.body), octet_length(c.body_bytes)) ELSE 0 END AS size) b
      ) w
      WHERE w.total - w.size < ${pass.bytes}::bigint
      ORDER BY w.position, w.taken`
    const toMessage = messageReader()
    const seen: Seen[] = []
    let messages = 0
    let full = rows.length >= mostOf(pass) || rows.at(-1)?.spent === true
    for (const row of rows) {
      // Its message and what is said of a position are two rows; and what has appeared in a gap may be found as ready, too.
      const position = Number(row.position)
      const before = seen.at(-1)?.position === position ? seen.pop() : undefined
      if (before === undefined && messages === pass.limit) break
      const message = before?.message ?? (row.lane === null ? undefined : toMessage(row as MessageRow))
      if (message !== undefined && before?.message === undefined) messages++
      const missing = Number(row.missing ?? before?.missing ?? 0)
      seen.push({ position, missing, message })
      if (Number(row.counted ?? 0) >= reachOf(pass)) full = true
    }
    return { seen, full: full || messages === pass.limit }
  }

  /** What `candidates` gives and, in the same snapshot, the positions that have appeared in gaps, in whatever state and lane. */
  const withGaps = (pass: Pass, candidates: ReturnType<Sql>): ReturnType<Sql> =>
    pass.gaps.length === 0
      ? candidates
      : sql`
        (${candidates}) UNION ALL (
          SELECT m.*, ${ready} AND ${lanesOf(pass)} AS taken, NULL::bigint AS missing, NULL::bigint AS counted
          FROM unnest(${list(pass.gaps.map((gap) => gap.low))}::text::bigint[],
                      ${list(pass.gaps.map((gap) => gap.high))}::text::bigint[]) AS g(low, high)
          CROSS JOIN LATERAL (
            SELECT * FROM ${messages} i WHERE i.position BETWEEN g.low AND g.high
            ORDER BY i.position LIMIT ${mostOf(pass)}::int) m)
        ORDER BY position FETCH FIRST (${mostOf(pass)}::int) ROWS WITH TIES`

  return {
    /** How positions are drawn: only without a cache do they follow the order of the draws. */
    sequence: async (): Promise<{ readonly cache: number; readonly last: number }> => {
      const [row] = await sql<[{ cache: string; last: string | null }?]>`
        SELECT s.seqcache AS cache, pg_sequence_last_value(s.seqrelid::regclass) AS last FROM pg_sequence s
        WHERE s.seqrelid = pg_get_serial_sequence(${`${quoted}.messages`}::text, 'position')::regclass`
      return { cache: Number(row?.cache ?? 0), last: Number(row?.last ?? 0) }
    },

    floor: async (): Promise<number> => {
      await sql`
        DELETE FROM ${relays} r
        WHERE r.expires_at < now() - interval '1 day' AND r.floor < (SELECT max(o.floor) FROM ${relays} o)`
      const [row] = await sql<[{ floor: string }]>`SELECT coalesce(max(floor), 0) AS floor FROM ${relays}`
      return Number(row.floor)
    },

    tick: async (tick: Tick): Promise<Share> => {
      const rows = await sql<
        { alive: boolean; live: number; orphans: number; lane: number | null; token: string | null }[]
      >`
        WITH me AS (
          INSERT INTO ${relays} AS r (id, name, expires_at, floor, state)
          SELECT ${tick.relay}::uuid, ${tick.name}::text,
                 clock_timestamp() + ${tick.leaseMillis}::float8 * interval '1 ms', ${tick.floor}::bigint, ${tick.state}::text::json
          WHERE ${tick.renew}::boolean
          ON CONFLICT (id) DO UPDATE
            SET renewed_at = clock_timestamp(), expires_at = excluded.expires_at, floor = excluded.floor, state = excluded.state
            WHERE r.expires_at > clock_timestamp()
          RETURNING r.id
        ), live AS (
          SELECT id FROM ${relays}
          WHERE expires_at > clock_timestamp() AND (id <> ${tick.relay}::uuid OR NOT ${tick.renew}::boolean)
          UNION SELECT id FROM me
        ), share AS (
          SELECT count(*)::int AS live, coalesce(bool_or(id = ${tick.relay}::uuid), false) AS alive FROM live
        ), mine AS (
          SELECT lane, token FROM ${lanes} WHERE relay_id = ${tick.relay}::uuid AND (SELECT alive FROM share)
        ), orphans AS (
          SELECT lane FROM ${lanes} WHERE relay_id IS NULL OR relay_id NOT IN (SELECT id FROM live)
        ), free AS (
          -- One that was taken after this statement began has another token by the time it is locked.
          SELECT l.lane FROM ${lanes} l JOIN ${lanes} s ON s.lane = l.lane AND s.token = l.token
          WHERE (l.relay_id IS NULL OR l.relay_id NOT IN (SELECT id FROM live)) AND (SELECT alive FROM share)
          ORDER BY l.lane
          LIMIT greatest(0, (SELECT ceil(${LANES}::float8 / greatest(live, 1))::int FROM share) - (SELECT count(*)::int FROM mine))
          FOR UPDATE OF l SKIP LOCKED
        ), taken AS (
          UPDATE ${lanes} l SET relay_id = ${tick.relay}::uuid, token = l.token + 1 FROM free WHERE l.lane = free.lane
          RETURNING l.lane, l.token
        )
        SELECT s.alive, s.live, (SELECT count(*) FROM orphans)::int - (SELECT count(*) FROM taken)::int AS orphans, o.lane, o.token
        FROM share s LEFT JOIN (SELECT lane, token FROM mine UNION ALL SELECT lane, token FROM taken) o ON true`
      const held = new Map<number, number>()
      for (const row of rows) if (row.lane !== null) held.set(row.lane, Number(row.token))
      const first = rows[0]
      return {
        alive: first?.alive ?? false,
        live: first?.live ?? 0,
        orphans: first?.orphans ?? 0,
        lanes: held,
      }
    },

    /** Without `which`, all lanes and the lease; the row stays, for its floor. */
    release: async (relay: string, which?: ReadonlyArray<number>): Promise<void> => {
      if (which === undefined)
        await sql`
          WITH given AS (UPDATE ${lanes} SET relay_id = NULL WHERE relay_id = ${relay}::uuid)
          UPDATE ${relays} SET expires_at = clock_timestamp() WHERE id = ${relay}::uuid`
      else
        await sql`
          UPDATE ${lanes} SET relay_id = NULL
          WHERE relay_id = ${relay}::uuid AND lane = ANY(${list(which)}::text::smallint[])`
    },

    /** Above the cursor every position counts, whoever's it is, so that what is missing in between is known. */
    readNew: (pass: Pass): Promise<PassResult> =>
      cut(
        pass,
        withGaps(
          pass,
          sql`
          WITH ahead AS MATERIALIZED (
            SELECT count(*) AS counted, max(p.position) AS last
            FROM (SELECT m.position FROM ${messages} m WHERE m.position > ${pass.cursor}::bigint
                  ORDER BY m.position LIMIT ${reachOf(pass)}::int) p
          ), marks AS (
            SELECT last AS position, NULL::bigint AS missing, counted FROM ahead WHERE counted > 0
            UNION ALL
            SELECT g.position, g.missing, NULL
            FROM (SELECT m.position, m.position - 1 - lag(m.position, 1, ${pass.cursor}::bigint) OVER (ORDER BY m.position) AS missing
                  FROM ${messages} m
                  WHERE m.position > ${pass.cursor}::bigint AND m.position <= (SELECT last FROM ahead)
                    AND (SELECT counted < last - ${pass.cursor}::bigint FROM ahead)) g
            WHERE g.missing > 0
          )
          (SELECT m.*, true AS taken, NULL::bigint AS missing, NULL::bigint AS counted FROM ${messages} m
           WHERE m.position > ${pass.cursor}::bigint AND m.position <= (SELECT last FROM ahead)
             AND ${ready} AND ${lanesOf(pass)}
           ORDER BY m.position LIMIT ${pass.limit}::int)
          UNION ALL
          SELECT m.*, false, k.missing, k.counted FROM marks k
          CROSS JOIN LATERAL (SELECT * FROM ${messages} i WHERE i.position = k.position LIMIT 1) m`,
        ),
      ),

    /** Behind the cursor every position is known: only what is ready, by its index. */
    readReady: (pass: Pass): Promise<PassResult> =>
      cut(
        pass,
        withGaps(
          pass,
          sql`
          SELECT m.*, true AS taken, NULL::bigint AS missing, NULL::bigint AS counted FROM ${messages} m
          WHERE m.position > ${pass.from}::bigint AND m.position <= ${pass.cursor}::bigint
            AND ${ready} AND ${lanesOf(pass)}
          ORDER BY m.position LIMIT ${pass.limit}::int`,
        ),
      ),

    /** A position's writer takes this lock before it draws the position and keeps it until it is visible or gone. */
    writers: async (): Promise<ReadonlySet<string>> => {
      const rows = await sql<{ writer: string }[]>`
        SELECT DISTINCT virtualtransaction AS writer FROM pg_locks
        WHERE locktype = 'relation' AND relation = ${`${quoted}.messages`}::text::regclass AND mode = 'RowExclusiveLock' AND granted
          AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`
      return new Set(rows.map((row) => row.writer))
    },

    refused: async (which: ReadonlyArray<number>): Promise<ReadonlyArray<RefusedMessage>> => {
      const rows = await sql<{ position: string; lane: number; destination: string; key: string }[]>`
        SELECT m.position, m.lane, m.destination, m.key FROM ${messages} m
        WHERE ${pending} AND m.attempts > 0 AND m.key IS NOT NULL AND m.lane = ANY(${list(which)}::text::smallint[])
        ORDER BY m.position`
      return rows.map((row) => ({ ...row, position: Number(row.position) }))
    },

    // Here and below: a join alone can be planned, while the table is empty, as a reading of all of it, and stay so.
    promote: async (
      held: ReadonlyMap<number, number>,
      limit: number,
    ): Promise<ReadonlyArray<StoredMessage>> => {
      const rows = await sql<MessageRow[]>`
        WITH due AS (
          SELECT m.position, m.lane FROM ${messages} m
          WHERE ${pending} AND m.available_at IS NOT NULL AND m.available_at <= now()
            AND m.lane = ANY(${list([...held.keys()])}::text::smallint[])
          ORDER BY m.available_at LIMIT ${limit}::int
        ), fence AS (
          SELECT l.lane FROM ${lanes} l
          JOIN unnest(${list([...held.keys()])}::text::smallint[], ${list([...held.values()])}::text::bigint[]) AS t(lane, token)
            ON t.lane = l.lane AND t.token = l.token
          WHERE l.lane IN (SELECT lane FROM due)
          FOR SHARE OF l
        )
        UPDATE ${messages} m SET available_at = NULL, ${generated} FROM fence
        WHERE m.position = ANY(ARRAY(SELECT position FROM due)) AND m.lane = fence.lane
          AND ${pending} AND m.available_at <= now()
        RETURNING m.position, ${sql.unsafe(messageColumns("m"))}`
      return rows.map(messageReader()).sort((a, b) => a.position - b.position)
    },

    markPublished: async (positions: ReadonlyArray<number>): Promise<void> => {
      await sql`
        UPDATE ${messages} m SET published_at = clock_timestamp(), available_at = NULL, dead_at = NULL, ${generated}
        WHERE m.position = ANY(${list(positions)}::text::bigint[]) AND m.published_at IS NULL`
    },

    deletePublished: async (positions: ReadonlyArray<number>): Promise<void> => {
      await sql`DELETE FROM ${messages} m WHERE m.position = ANY(${list(positions)}::text::bigint[])`
    },

    judge: async (verdicts: ReadonlyArray<Verdict>): Promise<ReadonlySet<number>> => {
      const json = JSON.stringify(
        verdicts.map(({ fate, words, ...rest }) => ({
          ...rest,
          // JSON in PostgreSQL takes neither a NUL nor half of a surrogate pair.
          words: Buffer.from(words.replaceAll("\0", "")).toString(),
          dead: fate === "dead",
          retry: typeof fate === "object" ? fate.retryInMillis : null,
        })),
      )
      const rows = await sql<{ position: string }[]>`
        WITH verdict AS (
          SELECT * FROM json_to_recordset(${json}::text::json)
            AS v(position bigint, lane smallint, token bigint, words text, attempts integer, dead boolean, retry float8)
        ), fence AS (
          SELECT l.lane, l.token FROM ${lanes} l WHERE l.lane IN (SELECT lane FROM verdict) FOR SHARE OF l
        )
        UPDATE ${messages} m SET
          attempts = v.attempts,
          last_error = v.words,
          available_at = CASE WHEN v.dead THEN NULL
                              WHEN v.retry IS NULL THEN m.available_at
                              ELSE clock_timestamp() + v.retry * interval '1 ms' END,
          dead_at = CASE WHEN v.dead THEN clock_timestamp() END
        FROM verdict v JOIN fence f ON f.lane = v.lane AND f.token = v.token
        WHERE m.position = v.position AND m.position = ANY(ARRAY(SELECT position FROM verdict)) AND ${pending}
        RETURNING m.position`
      return new Set(rows.map((row) => Number(row.position)))
    },

    /** Walks up from the oldest position: creation comes before any finish, so the first young row ends the walk. */
    purge: async (request: PurgeRequest): Promise<PurgeResult> => {
      const youngest = Math.min(
        request.publishedMillis ?? Number.POSITIVE_INFINITY,
        request.deadMillis ?? Number.POSITIVE_INFINITY,
      )
      if (youngest === Number.POSITIVE_INFINITY) return { deleted: 0, next: undefined }
      const [row] = await sql<
        [{ deleted: number; looked: number; last: string | null; young: boolean | null }]
      >`
        WITH looked AS (
          SELECT m.position, m.created_at FROM ${messages} m
          WHERE m.position > ${request.after}::bigint ORDER BY m.position LIMIT ${request.limit}::int
        ), gone AS (
          DELETE FROM ${messages} m USING looked l
          WHERE m.position = l.position AND m.position = ANY(ARRAY(SELECT position FROM looked))
            AND (m.published_at <= now() - ${request.publishedMillis ?? null}::float8 * interval '1 ms'
              OR (m.published_at IS NULL AND m.dead_at <= now() - ${request.deadMillis ?? null}::float8 * interval '1 ms'))
          RETURNING 1
        )
        SELECT (SELECT count(*) FROM gone)::int AS deleted, count(*)::int AS looked, max(l.position) AS last,
               max(l.created_at) > now() - ${youngest}::float8 * interval '1 ms' AS young
        FROM looked l`
      const more = row.looked === request.limit && row.young === false
      return { deleted: row.deleted, next: more ? Number(row.last) : undefined }
    },

    counts: async (): Promise<Counts> => {
      const [row] = await sql<[{ pending: string; dead: string; oldest: number | null }]>`
        SELECT (SELECT count(*) FROM ${messages} m WHERE ${ready})
               + (SELECT count(*) FROM ${messages} m WHERE ${pending} AND m.available_at IS NOT NULL) AS pending,
               (SELECT count(*) FROM ${messages} m WHERE m.dead_at IS NOT NULL) AS dead,
               (SELECT extract(epoch FROM now() - m.created_at)::float8 * 1000 FROM ${messages} m WHERE ${ready}
                ORDER BY m.position LIMIT 1) AS oldest`
      return {
        pending: Number(row.pending),
        dead: Number(row.dead),
        oldestMillis: Math.max(0, row.oldest ?? 0),
      }
    },
  }
}

/** An array as the text PostgreSQL reads: one text parameter, whatever its length. */
const list = (values: ReadonlyArray<number>): string => `{${values.join(",")}}`

/** Lanes as the bits of a bigint: an array would be parsed again for each row. */
const maskOf = (lanes: ReadonlyArray<number>): string =>
  String(
    BigInt.asIntN(
      64,
      lanes.reduce((mask, lane) => mask | (1n << BigInt(lane)), 0n),
    ),
  )
