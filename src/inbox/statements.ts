/** The inbox's SQL: one function a statement, named by what it does. */
import { type SQL, sql } from "drizzle-orm"
import { quoteSchema } from "../store/schema-name.ts"
import type { Arrival, InboxScope, Member, Parking, Renewal } from "./inbox.ts"
import { BEGUN } from "./opening.ts"

/** Statements on the tables of `schema`. */
export const makeStatements = (schema: string) => {
  const quoted = quoteSchema(schema)
  const name = (of: string) => sql.raw(`${quoted}."${of}"`)
  const [inbox, consumers, subscriptions] = [name("inbox"), name("consumers"), name("subscriptions")]
  const inScope = ({ consumer, queue }: InboxScope) =>
    sql`consumer = ${consumer}::text AND queue = ${queue}::text`
  const later = (millis: number | null) =>
    sql`clock_timestamp() + ${millis}::float8 * interval '1 millisecond'`
  const content = ({ messageId, destination, key, headers, body }: Arrival) => sql`
    ${messageId}::text, ${destination}::text, ${key}::text, ${JSON.stringify(headers)}::text::json,
    decode(${base64(body)}::text, 'base64')`

  return {
    /** The claim of one arrival that opens a transaction, to be prepared. */
    claimPrepared: (
      { consumer, queue }: InboxScope,
      { messageId, destination, key }: Arrival,
      ordered: boolean,
      limit: number,
    ) => ({
      text: `SELECT ${limits(limit)}${quoted}."inbox_claim_one"($1, $2, $3, $4, $5, ${ordered}) AS claim WHERE ${BEGUN}`,
      parameters: [consumer, queue, messageId, destination, key],
    }),

    /** The text of a statement without parameters, which would cost postgres.js a round trip of their own. Gives `claim` for each, in order. */
    claim: (
      { consumer, queue }: InboxScope,
      arrivals: ReadonlyArray<Arrival>,
      ordered: boolean,
      limit: number | undefined,
    ): string => {
      const [only] = arrivals
      if (arrivals.length === 1 && only !== undefined) {
        const key = only.key === null ? "NULL" : literal(wellFormed(only.key))
        return `SELECT ${limits(limit)}${quoted}."inbox_claim_one"(${literal(consumer)}, ${literal(queue)}, ${literal(wellFormed(only.messageId))}, ${literal(wellFormed(only.destination))}, ${key}, ${ordered}) AS claim`
      }
      const json = JSON.stringify(
        arrivals.map(({ messageId, destination, key }) => ({
          i: wellFormed(messageId),
          d: wellFormed(destination),
          k: key === null ? null : wellFormed(key),
        })),
      )
      return `WITH l AS MATERIALIZED (SELECT ${limits(limit)}1) SELECT c.claim FROM l, ${quoted}."inbox_claim"(${literal(consumer)}, ${literal(queue)}, ${literal(json)}, ${ordered}) AS c (claim)`
    },

    /** Gives `claim`. */
    look: (scope: InboxScope, { messageId, key }: Arrival, ordered: boolean): SQL => sql`
      SELECT CASE
        WHEN EXISTS (SELECT FROM ${inbox}
                     WHERE consumer = ${scope.consumer}::text AND message_id = ${messageId}::text AND state <> 'started')
          THEN 'settled'
        WHEN ${ordered}::boolean AND EXISTS (SELECT FROM ${inbox}
                                             WHERE ${inScope(scope)} AND key = ${key}::text AND state = 'parked')
          THEN 'behind'
        ELSE 'fresh' END AS claim`,

    /** As a text, too. Gives `resumed`. */
    resume: (
      { consumer, ordered = true }: InboxScope,
      messageId: string,
      limit: number | undefined,
    ): string =>
      `SELECT ${limits(limit)}${quoted}."inbox_resume"(${literal(consumer)}, ${literal(wellFormed(messageId))}, ${ordered}) AS resumed`,

    park: (
      { consumer, queue, ordered = true }: InboxScope,
      arrival: Arrival,
      parking: Parking,
      limit: number | undefined,
    ): SQL => sql`
      SELECT ${sql.raw(limits(limit))}${name("inbox_park")}(${consumer}::text, ${queue}::text, ${content(arrival)}, ${parking.attempts}::int,
        ${words(parking.error)}::text, ${parking.retryInMillis}::float8, ${ordered}::boolean)`,

    /** Gives `buried`. */
    bury: (
      { consumer, queue, ordered = true }: InboxScope,
      arrival: Arrival,
      death: { readonly attempts: number; readonly error: string },
      limit: number | undefined,
    ): SQL => sql`
      SELECT ${sql.raw(limits(limit))}${name("inbox_bury")}(${consumer}::text, ${queue}::text, ${content(arrival)}, ${death.attempts}::int,
        ${words(death.error)}::text, ${ordered}::boolean) AS buried`,

    /** Gives `started`, or no row. */
    start: (
      { consumer, queue }: InboxScope,
      { messageId, destination, key }: Arrival,
      before: number | undefined,
      keepMillis: number | undefined,
    ): SQL => sql`
      INSERT INTO ${inbox} AS m (consumer, message_id, queue, destination, key, state, started)
      SELECT ${consumer}::text, ${messageId}::text, ${queue}::text, ${destination}::text, ${key}::text, 'started', 1
      WHERE ${name("inbox_try_resume")}(${consumer}::text, ${messageId}::text)
      ON CONFLICT (consumer, message_id) DO UPDATE SET started = m.started + 1,
          available_at = CASE WHEN m.state = 'parked' THEN coalesce(${later(keepMillis ?? null)}, m.available_at) END
        WHERE m.state IN ('started', 'parked') AND m.started = coalesce(${before ?? null}::int, m.started)
      RETURNING started`,

    /** One more than is asked for, for the time of the next. */
    due: (scope: InboxScope, limit: number, soonest: boolean): SQL => sql`
      SELECT message_id, destination, key, attempts, started, wait,
             CASE WHEN wait <= 0 OR ${soonest}::boolean THEN headers END AS headers,
             CASE WHEN wait <= 0 OR ${soonest}::boolean THEN body END AS body
      FROM (
        SELECT *, extract(epoch FROM available_at - statement_timestamp())::float8 * 1000 AS wait FROM ${inbox}
        WHERE ${inScope(scope)} AND state = 'parked' AND available_at IS NOT NULL
        ORDER BY available_at, position LIMIT ${limit + 1}::int
      ) m
      ORDER BY available_at, position`,

    /** Gives `others`: how many are registered besides it. Those whose lease has ended are forgotten with this. */
    join: (member: Member, leaseMillis: number): SQL => sql`
      WITH others AS (
        SELECT id, expires_at FROM ${consumers} WHERE ${inScope(member)} AND id <> ${member.id}::uuid
      ), forgotten AS (
        DELETE FROM ${consumers} WHERE id IN (SELECT id FROM others WHERE expires_at <= clock_timestamp())
      ), joined AS (
        INSERT INTO ${consumers} (id, consumer, queue, name, expires_at)
        VALUES (${member.id}::uuid, ${member.consumer}::text, ${member.queue}::text, ${member.name}::text, ${later(leaseMillis)})
        ON CONFLICT (id) DO UPDATE SET renewed_at = clock_timestamp(), expires_at = excluded.expires_at
      )
      SELECT count(*)::int AS others FROM others`,

    /** Everything that waits behind others. */
    loosen: (scope: InboxScope): SQL => sql`
      UPDATE ${inbox} SET available_at = statement_timestamp()
      WHERE ${inScope(scope)} AND state = 'parked' AND available_at IS NULL`,

    /** Gives `holds`. */
    renew: (member: Member, { leaseMillis, state, hold }: Renewal): SQL => sql`
      WITH renewed AS (
        INSERT INTO ${consumers} (id, consumer, queue, name, expires_at, state)
        VALUES (${member.id}::uuid, ${member.consumer}::text, ${member.queue}::text, ${member.name}::text,
                ${later(leaseMillis)}, ${state}::text::json)
        ON CONFLICT (id) DO UPDATE
          SET renewed_at = clock_timestamp(), expires_at = excluded.expires_at, state = excluded.state
      ), held AS (
        INSERT INTO ${subscriptions} AS s (consumer, queue, holder, held_until)
        SELECT ${member.consumer}::text, ${member.queue}::text, ${member.id}::uuid, ${later(leaseMillis)}
        WHERE ${hold}::boolean
        ON CONFLICT (consumer, queue) DO UPDATE SET holder = excluded.holder, held_until = excluded.held_until
          WHERE s.holder = excluded.holder OR s.held_until <= clock_timestamp()
        RETURNING 1
      )
      SELECT EXISTS (SELECT FROM held) OR (NOT ${hold}::boolean AND EXISTS (
        SELECT FROM ${subscriptions}
        WHERE ${inScope(member)} AND holder = ${member.id}::uuid AND held_until > clock_timestamp())) AS holds`,

    release: (member: Member, afterMillis: number): SQL => sql`
      UPDATE ${subscriptions} SET holder = NULL, held_until = ${later(afterMillis)}
      WHERE ${inScope(member)} AND holder = ${member.id}::uuid`,

    leave: (member: Member): SQL => sql`
      WITH released AS (
        UPDATE ${subscriptions} SET holder = NULL, held_until = '-infinity'
        WHERE ${inScope(member)} AND holder = ${member.id}::uuid
      )
      DELETE FROM ${consumers} WHERE id = ${member.id}::uuid`,

    /** Gives `purged`. */
    purge: ({ consumer }: InboxScope, olderThanMillis: number, limit: number): SQL => sql`
      WITH gone AS (
        DELETE FROM ${inbox} WHERE (consumer, message_id) IN (
          SELECT consumer, message_id FROM ${inbox}
          WHERE consumer = ${consumer}::text AND state = 'handled'
            AND finished_at <= statement_timestamp() - ${olderThanMillis}::float8 * interval '1 millisecond'
          ORDER BY finished_at LIMIT ${limit}::int)
        RETURNING 1
      )
      SELECT count(*)::int AS purged FROM gone`,

    /** Gives `version`, 0 without the tables, and what transactions are that ask for nothing. */
    version: (): SQL => sql`
      SELECT coalesce(max(version), 0)::int AS version, current_setting('default_transaction_isolation') AS isolation,
             current_setting('default_transaction_deferrable') AS deferrable
      FROM ${name("migrations")}`,
  }
}

/** How long a transaction may lie idle, in milliseconds, beyond what a statement may take: then its process has vanished. */
const GRACE = 5000

/**
 * Sets the transaction's limits on the way, as a round trip of their own would cost more: a process that has vanished
 * must not keep the lock of a key, nor a statement that nobody waits for.
 */
const limits = (millis: number | undefined): string =>
  millis === undefined
    ? ""
    : `set_config('statement_timeout', '${millis}', true), set_config('idle_in_transaction_session_timeout', '${millis + GRACE}', true), `

/** A string constant that reads the same whatever `standard_conforming_strings` says. */
const literal = (text: string): string => `E'${text.replaceAll("\\", "\\\\").replaceAll("'", "''")}'`

/** Half of a surrogate pair is no text for PostgreSQL. */
const wellFormed = (text: string): string => Buffer.from(text).toString()

/** Nor is NUL. */
const words = (error: string | null): string | null =>
  error === null ? null : wellFormed(error.replaceAll("\0", ""))

const base64 = (bytes: Uint8Array): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("base64")
