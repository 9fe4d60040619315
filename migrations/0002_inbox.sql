-- The inbox: which messages a consumer has handled, what waits there for its retry, what is dead; and who consumes.

-- One row a consumer and message id, for as long as retention keeps it: the record that makes an effect happen once.
CREATE TABLE "outbox"."inbox" (
  "consumer" text NOT NULL,
  "message_id" text NOT NULL,
  -- Arrival order.
  "position" bigint GENERATED ALWAYS AS IDENTITY (CACHE 1),
  "queue" text NOT NULL,
  "destination" text NOT NULL,
  "key" text,
  "state" text NOT NULL,
  "attempts" integer NOT NULL DEFAULT 0,
  -- Starts that were recorded before the handler ran: more than attempts when it took its process down.
  "started" integer NOT NULL DEFAULT 0,
  "received_at" timestamptz NOT NULL DEFAULT clock_timestamp(),
  -- When a parked message is due; null while it waits behind another of its key.
  "available_at" timestamptz,
  "finished_at" timestamptz,
  "last_error" text,
  -- Only while parked or dead.
  "headers" json,
  "body" bytea,
  CONSTRAINT "inbox_pkey" PRIMARY KEY ("consumer", "message_id"),
  CONSTRAINT "inbox_state_check" CHECK ("state" IN ('started', 'handled', 'parked', 'dead'))
) WITH (
  autovacuum_vacuum_scale_factor = 0.01,
  autovacuum_vacuum_threshold = 5000,
  autovacuum_vacuum_insert_scale_factor = 0.05,
  autovacuum_analyze_scale_factor = 0.05,
  autovacuum_vacuum_cost_delay = 0,
  vacuum_truncate = off,
  toast.vacuum_truncate = off
);

-- Who holds back whom: the parked messages of a key, in order.
CREATE INDEX "inbox_parked" ON "outbox"."inbox" ("consumer", "queue", "key", "position") WHERE "state" = 'parked';
-- What is due.
CREATE INDEX "inbox_due" ON "outbox"."inbox" ("consumer", "queue", "available_at")
  WHERE "state" = 'parked' AND "available_at" IS NOT NULL;
CREATE INDEX "inbox_dead" ON "outbox"."inbox" ("finished_at") WHERE "state" = 'dead';
-- What retention may remove. Rows lie in the order of their finish, so a block range says it at next to no cost a message.
CREATE INDEX "inbox_finished" ON "outbox"."inbox" USING brin ("finished_at") WITH (pages_per_range = 32, autosummarize = on);

-- A live instance of a consumer renews its row.
CREATE TABLE "outbox"."consumers" (
  "id" uuid PRIMARY KEY,
  "consumer" text NOT NULL,
  "queue" text NOT NULL,
  "name" text NOT NULL,
  "started_at" timestamptz NOT NULL DEFAULT clock_timestamp(),
  "renewed_at" timestamptz NOT NULL DEFAULT clock_timestamp(),
  "expires_at" timestamptz NOT NULL,
  "state" json NOT NULL DEFAULT '{}'
) WITH (fillfactor = 50, vacuum_truncate = off);

-- Which instance may subscribe, where the broker does not elect one itself.
CREATE TABLE "outbox"."subscriptions" (
  "consumer" text NOT NULL,
  "queue" text NOT NULL,
  "holder" uuid,
  -- Until then nobody else may take it.
  "held_until" timestamptz NOT NULL DEFAULT '-infinity',
  CONSTRAINT "subscriptions_pkey" PRIMARY KEY ("consumer", "queue")
) WITH (fillfactor = 50, vacuum_truncate = off);

INSERT INTO "outbox"."migrations" ("version") VALUES (2);
