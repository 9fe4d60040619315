-- The outbox: messages written in the user's transactions, the relays that publish them, the lanes they share.
-- "outbox" is the schema's default name; drizzle-outbox writes another one here when told to.

CREATE SCHEMA IF NOT EXISTS "outbox";

CREATE TABLE "outbox"."migrations" (
  "version" integer PRIMARY KEY,
  "applied_at" timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- RFC 9562 § 5.7: 48 bits of Unix milliseconds, then the version and random bits. The one source of ids on every path.
CREATE FUNCTION "outbox"."uuid_v7"() RETURNS uuid LANGUAGE sql VOLATILE PARALLEL SAFE AS $$
  SELECT encode(
    set_bit(set_bit(
      overlay(uuid_send(gen_random_uuid())
        PLACING substring(int8send((extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3) FROM 1 FOR 6),
      52, 1), 53, 1),
    'hex')::uuid
$$;

CREATE TABLE "outbox"."messages" (
  "position" bigint GENERATED ALWAYS AS IDENTITY (CACHE 1),
  "id" uuid NOT NULL DEFAULT "outbox"."uuid_v7"(),
  "event" text NOT NULL,
  "event_id" uuid NOT NULL DEFAULT "outbox"."uuid_v7"(),
  "operation" text NOT NULL,
  "destination" text NOT NULL,
  "version" text,
  "key" text,
  -- 64 buckets for the table's life. hashtextextended and uuid_hash_extended are what hash partitioning uses: stable across versions.
  "lane" smallint NOT NULL GENERATED ALWAYS AS (
    ((CASE WHEN "key" IS NULL THEN uuid_hash_extended("id", 0) ELSE hashtextextended("key" COLLATE "C", 0) END) & 63)::smallint
  ) STORED,
  "headers" json NOT NULL DEFAULT '{}',
  "content_type" text NOT NULL DEFAULT 'application/json',
  "body" text,
  "body_bytes" bytea,
  "created_at" timestamptz NOT NULL DEFAULT clock_timestamp(),
  "available_at" timestamptz,
  "expires_at" timestamptz,
  "attempts" integer NOT NULL DEFAULT 0,
  "last_error" text,
  "published_at" timestamptz,
  "dead_at" timestamptz,
  CONSTRAINT "messages_pkey" PRIMARY KEY ("position"),
  CONSTRAINT "messages_destination_check" CHECK ("destination" <> '' AND "destination" !~ '[\r\n]'),
  CONSTRAINT "messages_body_check" CHECK (("body" IS NULL) <> ("body_bytes" IS NULL)),
  CONSTRAINT "messages_headers_check" CHECK (json_typeof("headers") = 'object')
) WITH (
  -- A queue's table: vacuum by what changed, not by a share of what is kept, and never lock out its users to shrink the file.
  autovacuum_vacuum_scale_factor = 0.01,
  autovacuum_vacuum_threshold = 5000,
  autovacuum_vacuum_insert_scale_factor = 0.05,
  autovacuum_analyze_scale_factor = 0.05,
  autovacuum_vacuum_cost_delay = 0,
  vacuum_truncate = off,
  toast.vacuum_truncate = off
);

-- What may leave now, in order.
CREATE INDEX "messages_ready" ON "outbox"."messages" ("position")
  WHERE "published_at" IS NULL AND "dead_at" IS NULL AND "available_at" IS NULL;
-- What is due later: delayed, backing off, requeued.
CREATE INDEX "messages_scheduled" ON "outbox"."messages" ("available_at")
  WHERE "published_at" IS NULL AND "dead_at" IS NULL AND "available_at" IS NOT NULL;
-- What was refused and holds its key.
CREATE INDEX "messages_refused" ON "outbox"."messages" ("position")
  WHERE "published_at" IS NULL AND "dead_at" IS NULL AND "attempts" > 0;
CREATE INDEX "messages_dead" ON "outbox"."messages" ("dead_at") WHERE "dead_at" IS NOT NULL;

-- A live relay renews its row; "floor" is the position up to which nothing can appear any more.
CREATE TABLE "outbox"."relays" (
  "id" uuid PRIMARY KEY,
  "name" text NOT NULL,
  "started_at" timestamptz NOT NULL DEFAULT clock_timestamp(),
  "renewed_at" timestamptz NOT NULL DEFAULT clock_timestamp(),
  "expires_at" timestamptz NOT NULL,
  "floor" bigint NOT NULL DEFAULT 0,
  "state" json NOT NULL DEFAULT '{}'
) WITH (fillfactor = 50, vacuum_truncate = off);

CREATE TABLE "outbox"."lanes" (
  "lane" smallint PRIMARY KEY,
  "relay_id" uuid,
  "token" bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50, vacuum_truncate = off);
INSERT INTO "outbox"."lanes" ("lane") SELECT generate_series(0, 63);

-- Writes a message from SQL (a trigger, another language): in the caller's transaction, like withOutbox.
-- A later available_at delays it; expires_at bounds its life.
CREATE FUNCTION "outbox"."emit"(
  "event" text,
  "destination" text,
  "body" text,
  "key" text DEFAULT NULL,
  "version" text DEFAULT NULL,
  "headers" json DEFAULT '{}',
  "content_type" text DEFAULT 'application/json',
  "operation" text DEFAULT 'emit',
  "available_at" timestamptz DEFAULT NULL,
  "expires_at" timestamptz DEFAULT NULL
) RETURNS uuid LANGUAGE sql VOLATILE AS $$
  INSERT INTO "outbox"."messages"
    ("event", "operation", "destination", "version", "key", "headers", "content_type", "body", "available_at", "expires_at")
  VALUES ($1, $8, CASE WHEN $5 IS NULL THEN $2 ELSE $2 || '.' || $5 END, $5, $4, $6, $7, $3, $9, $10)
  RETURNING "id"
$$;

INSERT INTO "outbox"."migrations" ("version") VALUES (1);
