/**
 * The tables of outbox and inbox for Drizzle queries. The SQL migrations make them (storage settings, functions and defaults
 * included, which Drizzle cannot express): leave them out of the schemas that drizzle-kit manages.
 */
import { sql } from "drizzle-orm"
import {
  bigint,
  check,
  customType,
  index,
  integer,
  json,
  pgSchema,
  primaryKey,
  smallint,
  text,
  timestamp,
  uuid,
} from "drizzle-orm/pg-core"

const bytea = customType<{ data: Uint8Array; driverData: Uint8Array }>({ dataType: () => "bytea" })
const moment = (name: string) => timestamp(name, { withTimezone: true, mode: "date" })

/** The tables in the PostgreSQL schema that `migrate` was given. */
export const outboxSchema = (name: string) => {
  const schema = pgSchema(name)
  const newId = sql`${sql.identifier(name)}.${sql.identifier("uuid_v7")}()`

  /** What travels: one row a message, from the write until retention removes it. */
  const messages = schema.table(
    "messages",
    {
      /** The place in the outbox; drawn before commit, so a lower one may appear later. */
      position: bigint("position", { mode: "bigint" }).primaryKey().generatedAlwaysAsIdentity({ cache: 1 }),
      /** The message's identity on the wire: UUIDv7, fixed at write. */
      id: uuid("id").notNull().default(newId),
      event: text("event").notNull(),
      /** The same for all publications of one row's event. */
      eventId: uuid("event_id").notNull().default(newId),
      /** insert, update, delete, upsert or emit. */
      operation: text("operation").notNull(),
      /** The full destination, version included. */
      destination: text("destination").notNull(),
      version: text("version"),
      /** The ordering scope; null has no order. */
      key: text("key"),
      /** The key's hash, 0 to 63. */
      lane: smallint("lane")
        .notNull()
        .generatedAlwaysAs(
          sql`((CASE WHEN "key" IS NULL THEN uuid_hash_extended("id", 0) ELSE hashtextextended("key" COLLATE "C", 0) END) & 63)::smallint`,
        ),
      headers: json("headers").$type<Record<string, string>>().notNull().default({}),
      contentType: text("content_type").notNull().default("application/json"),
      /** One of `body` and `bodyBytes` is null. */
      body: text("body"),
      bodyBytes: bytea("body_bytes"),
      createdAt: moment("created_at").notNull().default(sql`clock_timestamp()`),
      /** When it may leave; null once it may. */
      availableAt: moment("available_at"),
      /** When it is no longer worth sending; null for never. */
      expiresAt: moment("expires_at"),
      /** Refused tries; an outage is none. */
      attempts: integer("attempts").notNull().default(0),
      lastError: text("last_error"),
      publishedAt: moment("published_at"),
      deadAt: moment("dead_at"),
    },
    (t) => [
      index("messages_ready")
        .on(t.position)
        .where(sql`"published_at" IS NULL AND "dead_at" IS NULL AND "available_at" IS NULL`),
      index("messages_scheduled")
        .on(t.availableAt)
        .where(sql`"published_at" IS NULL AND "dead_at" IS NULL AND "available_at" IS NOT NULL`),
      index("messages_refused")
        .on(t.position)
        .where(sql`"published_at" IS NULL AND "dead_at" IS NULL AND "attempts" > 0`),
      index("messages_dead").on(t.deadAt).where(sql`"dead_at" IS NOT NULL`),
      check("messages_destination_check", sql`"destination" <> '' AND "destination" !~ '[\r\n]'`),
      check("messages_body_check", sql`("body" IS NULL) <> ("body_bytes" IS NULL)`),
      check("messages_headers_check", sql`json_typeof("headers") = 'object'`),
    ],
  )

  /** A live relay renews its row. */
  const relays = schema.table("relays", {
    id: uuid("id").primaryKey(),
    name: text("name").notNull(),
    startedAt: moment("started_at").notNull().default(sql`clock_timestamp()`),
    renewedAt: moment("renewed_at").notNull().default(sql`clock_timestamp()`),
    expiresAt: moment("expires_at").notNull(),
    /** The position up to which nothing can appear any more. */
    floor: bigint("floor", { mode: "bigint" }).notNull().default(sql`0`),
    state: json("state").notNull().default({}),
  })

  /** Which relay owns which of the 64 lanes. */
  const lanes = schema.table("lanes", {
    lane: smallint("lane").primaryKey(),
    relayId: uuid("relay_id"),
    token: bigint("token", { mode: "bigint" }).notNull().default(sql`0`),
  })

  /** What consumers have handled, and what waits or is dead there: one row a consumer and message id. */
  const inbox = schema.table(
    "inbox",
    {
      /** The consumer's name: the dedup scope. */
      consumer: text("consumer").notNull(),
      messageId: text("message_id").notNull(),
      /** Arrival order. */
      position: bigint("position", { mode: "bigint" }).notNull().generatedAlwaysAsIdentity({ cache: 1 }),
      queue: text("queue").notNull(),
      destination: text("destination").notNull(),
      /** The ordering scope; null has no order. */
      key: text("key"),
      /** started, handled, parked or dead. */
      state: text("state").notNull(),
      /** Failed tries. */
      attempts: integer("attempts").notNull().default(0),
      /** Starts that were recorded before the handler ran. */
      started: integer("started").notNull().default(0),
      receivedAt: moment("received_at").notNull().default(sql`clock_timestamp()`),
      /** When a parked message is due; null while it waits behind another of its key. */
      availableAt: moment("available_at"),
      /** When it was handled or died. */
      finishedAt: moment("finished_at"),
      lastError: text("last_error"),
      /** Only while parked or dead, as the body. */
      headers: json("headers").$type<Record<string, string>>(),
      body: bytea("body"),
    },
    (t) => [
      primaryKey({ name: "inbox_pkey", columns: [t.messageId, t.consumer] }),
      index("inbox_parked").on(t.consumer, t.queue, t.key, t.position).where(sql`"state" = 'parked'`),
      index("inbox_due")
        .on(t.consumer, t.queue, t.availableAt, t.position)
        .where(sql`"state" = 'parked' AND "available_at" IS NOT NULL`),
      index("inbox_dead").on(t.finishedAt).where(sql`"state" = 'dead'`),
      index("inbox_handled").on(t.consumer, t.finishedAt).where(sql`"state" = 'handled'`),
      index("inbox_started").on(t.consumer, t.queue).where(sql`"state" = 'started'`),
      check("inbox_state_check", sql`"state" IN ('started', 'handled', 'parked', 'dead')`),
    ],
  )

  /** A live instance of a consumer renews its row. */
  const consumers = schema.table("consumers", {
    id: uuid("id").primaryKey(),
    consumer: text("consumer").notNull(),
    queue: text("queue").notNull(),
    name: text("name").notNull(),
    startedAt: moment("started_at").notNull().default(sql`clock_timestamp()`),
    renewedAt: moment("renewed_at").notNull().default(sql`clock_timestamp()`),
    expiresAt: moment("expires_at").notNull(),
    state: json("state").notNull().default({}),
  })

  /** Which instance may subscribe, where the broker does not elect one itself. */
  const subscriptions = schema.table(
    "subscriptions",
    {
      consumer: text("consumer").notNull(),
      queue: text("queue").notNull(),
      holder: uuid("holder"),
      /** Until then nobody else may take it. */
      heldUntil: moment("held_until").notNull().default(sql`'-infinity'`),
    },
    (t) => [primaryKey({ name: "subscriptions_pkey", columns: [t.consumer, t.queue] })],
  )

  /** The migrations applied. */
  const migrations = schema.table("migrations", {
    version: integer("version").primaryKey(),
    appliedAt: moment("applied_at").notNull().default(sql`clock_timestamp()`),
  })

  return { schema, messages, relays, lanes, inbox, consumers, subscriptions, migrations }
}

/** The tables in the default schema "outbox". */
export const { schema, messages, relays, lanes, inbox, consumers, subscriptions, migrations } =
  outboxSchema("outbox")
