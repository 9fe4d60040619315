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
  type Share,
  type StoredMessage,
  type Tick,
  type Verdict,
} from "./store.ts"

/** A pass looks at so many times its limit of positions at the most, however few lanes it is for. */
const MOST_REACH = 16

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

  /** Positions that a pass looks at, at the most: as many as have its limit of messages in the pass's share of the lanes. */
  const reachOf = (pass: Pass) => Math.ceil(pass.limit * Math.min(MOST_REACH, LANES / pass.lanes.length))

  /** Gives the messages among `candidates` (rows of the table with `taken`), as many as the pass's limits allow. */
  const cut = async (pass: Pass, candidates: ReturnType<Sql>): Promise<PassResult> => {
    const rows = await sql<
      (Partial<MessageRow> & { position: string; missing: string | null; last: string | null })[]
    >`
      SELECT w.position, nullif(w.missing, 0) AS missing, CASE WHEN w.final THEN w.nth END AS last,
             ${sql.unsafe(messageColumns("w", "w.taken"))}
      FROM (
        SELECT c.*, b.size, sum(b.size) OVER o AS total, count(*) FILTER (WHERE c.taken) OVER o AS hits,
               row_number() OVER o AS nth, lead(c.position) OVER o IS NULL AS final,
               greatest(0, c.position - 1 - greatest(lag(c.position) OVER o, ${pass.cursor}::bigint)) AS missing
        FROM (${candidates}) c
        CROSS JOIN LATERAL (
          SELECT CASE WHEN c.taken THEN coalesce(octet_length(c.body), octet_length(c.body_bytes)) ELSE 0 END AS size) b
        WINDOW o AS (ORDER BY c.position ROWS UNBOUNDED PRECEDING)
      ) w
      WHERE w.total - w.size < ${pass.bytes}::bigint AND w.hits <= ${pass.limit}::int
        AND (w.taken OR w.missing > 0 OR w.final OR w.position <= ${pass.cursor}::bigint)
      ORDER BY w.position`
    const toMessage = messageReader()
    const seen: PassResult["seen"][number][] = []
    let last = -1
    for (const row of rows) {
      const position = Number(row.position)
      // Behind the cursor, what has appeared in a gap may be found as ready, too.
      if (position === last) continue
      last = position
      const message = row.lane === null ? undefined : toMessage(row as MessageRow)
      seen.push({ position, missing: Number(row.missing ?? 0), message })
    }
    const final = rows.at(-1)?.last
    return { seen, full: rows.length > 0 && (final == null || Number(final) >= reachOf(pass)) }
  }

  /** What `candidates` gives and, in the same snapshot, the positions that have appeared in gaps, in whatever state and lane. */
  const withGaps = (pass: Pass, candidates: ReturnType<Sql>): ReturnType<Sql> =>
    pass.gaps.length === 0
      ? candidates
      : sql`
        (${candidates}) UNION ALL (
          SELECT m.*, ${ready} AND ${lanesOf(pass)} AS taken
          FROM unnest(${list(pass.gaps.map((gap) => gap.low))}::text::bigint[],
                      ${list(pass.gaps.map((gap) => gap.high))}::text::bigint[]) AS g(low, high)
          CROSS JOIN LATERAL (
            SELECT * FROM ${messages} i WHERE i.position BETWEEN g.low AND g.high
            ORDER BY i.position LIMIT ${reachOf(pass)}::int) m)
        ORDER BY position LIMIT ${reachOf(pass)}::int`

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
          SELECT l.lane FROM ${lanes} l
          WHERE (l.relay_id IS NULL OR l.relay_id NOT IN (SELECT id FROM live)) AND (SELECT alive FROM share)
          ORDER BY l.lane
          LIMIT greatest(0, (SELECT ceil(${LANES}::float8 / greatest(live, 1))::int FROM share) - (SELECT count(*)::int FROM mine))
          FOR UPDATE SKIP LOCKED
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
          SELECT m.*, ${ready} AND ${lanesOf(pass)} AS taken
          FROM ${messages} m WHERE m.position > ${pass.cursor}::bigint
          ORDER BY m.position LIMIT ${reachOf(pass)}::int`,
        ),
      ),

    /** Behind the cursor every position is known: only what is ready, by its index. */
    readReady: (pass: Pass): Promise<PassResult> =>
      cut(
        pass,
        withGaps(
          pass,
          sql`
          SELECT m.*, true AS taken FROM ${messages} m
          WHERE m.position > ${pass.from}::bigint AND m.position <= ${pass.cursor}::bigint
            AND ${ready} AND ${lanesOf(pass)}
          ORDER BY m.position LIMIT ${reachOf(pass)}::int`,
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
        UPDATE ${messages} m SET available_at = NULL, ${generated} FROM due JOIN fence USING (lane)
        WHERE m.position = due.position AND ${pending} AND m.available_at <= now()
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
        WHERE m.position = v.position AND ${pending}
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
          WHERE m.position = l.position
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
