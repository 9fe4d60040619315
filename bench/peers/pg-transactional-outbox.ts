/**
 * pg-transactional-outbox with its polling listener: to nothing, or to a broker with a receipt for each message.
 *
 * Tuned is the fastest that was found: larger batches, and messages that may run in parallel, are slower, as each poll
 * then locks row by row what it gives.
 */
import postgres from "postgres"
import { connectBare } from "../support/bare-publisher.ts"
import { config, load, timed } from "./timed.ts"

interface Stored {
  readonly payload: unknown
}

interface PgTransactionalOutbox {
  readonly DatabaseSetup: Readonly<Record<string, (options: object) => string>>
  readonly getDisabledLogger: () => object
  readonly initializePollingMessageListener: (
    options: object,
    handler: { readonly handle: (message: Stored) => Promise<void> },
    logger: object,
  ) => unknown
}

const { DatabaseSetup, getDisabledLogger, initializePollingMessageListener } =
  await load<PgTransactionalOutbox>("pg-transactional-outbox")
const { database, tuned, messages, broker, destination = "/topic/peer" } = config
const sql = postgres(database, { max: 2, onnotice: () => {} })
const setup = {
  outboxOrInbox: "outbox",
  database: "postgres",
  schema: "peer",
  table: "outbox",
  listenerRole: "postgres",
  nextMessagesSchema: "peer",
  nextMessagesName: "next_outbox_messages",
}
for (const part of ["dropAndCreateTable", "createPollingFunction", "setupPollingIndexes"])
  await sql.unsafe(DatabaseSetup[part]!(setup))
await sql`
  INSERT INTO peer.outbox (id, aggregate_type, aggregate_id, message_type, segment, concurrency, payload)
  SELECT gen_random_uuid(), 'orders', n::text, 'insert', 'customer-' || n % 500, 'sequential',
         jsonb_build_object('order_id', n, 'status', 'placed', 'note', repeat('x', 150))
  FROM generate_series(1, ${messages}::int) n`
await sql`VACUUM ANALYZE peer.outbox`
const publisher = broker === undefined ? undefined : await connectBare(broker)
const { hostname: host, port, username: user, password, pathname } = new URL(database)
await timed(
  async () =>
    initializePollingMessageListener(
      {
        outboxOrInbox: "outbox",
        dbListenerConfig: {
          host,
          port: Number(port),
          user,
          password,
          database: pathname.slice(1),
          max: tuned ? 20 : 10,
        },
        settings: {
          dbSchema: "peer",
          dbTable: "outbox",
          nextMessagesFunctionSchema: "peer",
          nextMessagesFunctionName: "next_outbox_messages",
          ...(tuned && {
            nextMessagesBatchSize: 50,
            nextMessagesPollingIntervalInMs: 10,
            nextMessagesLockInMs: 60_000,
          }),
        },
      },
      {
        handle: async ({ payload }) =>
          publisher?.publish({ destination, headers: {}, body: JSON.stringify(payload) }),
      },
      getDisabledLogger(),
    ),
  async () => {
    const [row] = await sql<
      [{ left: number }]
    >`SELECT count(*)::int AS left FROM peer.outbox WHERE processed_at IS NULL`
    return row.left
  },
)
