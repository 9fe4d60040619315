/** Fills an outbox by SQL: what writers would have written, without waiting for them. */
import type { Sql } from "postgres"

export interface Fill {
  readonly destination: string
  /** The key of all; by default 500 keys in turn. */
  readonly key?: string
  /** Bytes of each body, about. Default 200. */
  readonly bodyBytes?: number
  /** As they are after so long: published an hour ago, or due tomorrow. */
  readonly state?: "published" | "delayed"
  /**
   * RabbitMQ refuses them each time, as they say that they come from somebody else. They have been refused for long, so that the pauses
   * between tries are four minutes; the next try is due in 10 s.
   */
  readonly refused?: boolean
}

/** How often refused messages have been refused before. */
export const REFUSALS = 20

/** Rows of one statement at the most, so that a large fill can tell how far it is. */
const PIECE = 500_000

/** Writes `count` messages, in order of position. */
export const fill = async (
  sql: Sql,
  count: number,
  { destination, key, bodyBytes = 200, state, refused = false }: Fill,
  told: (written: number) => void = () => {},
): Promise<void> => {
  for (let written = 0; written < count; written += PIECE) {
    const rows = Math.min(PIECE, count - written)
    await sql`
      INSERT INTO outbox.messages
        (event, operation, destination, key, headers, body, attempts, last_error, available_at, published_at)
      SELECT 'orders', 'insert', ${destination}, coalesce(${key ?? null}::text, 'customer-' || n % 500),
             ${refused ? '{"user-id":"nobody"}' : "{}"}::text::json,
             json_build_object('order_id', n, 'status', 'placed', 'note', repeat('x', ${bodyBytes - 50}::int))::text,
             CASE WHEN ${refused} THEN ${REFUSALS}::int ELSE 0 END, CASE WHEN ${refused} THEN 'PRECONDITION_FAILED' END,
             CASE WHEN ${refused} THEN now() + interval '10 s'
                  WHEN ${state ?? ""}::text = 'delayed' THEN now() + interval '1 day' + n * interval '1 ms' END,
             CASE WHEN ${state ?? ""}::text = 'published' THEN now() - interval '1 hour' END
      FROM generate_series(1, ${rows}::int) n ORDER BY n`
    told(written + rows)
  }
}
