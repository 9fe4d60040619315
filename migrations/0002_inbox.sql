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
  -- The id first: with the consumer first, a plan made on a small table could read all of a consumer's rows by this index.
  CONSTRAINT "inbox_pkey" PRIMARY KEY ("message_id", "consumer"),
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
CREATE INDEX "inbox_due" ON "outbox"."inbox" ("consumer", "queue", "available_at", "position")
  WHERE "state" = 'parked' AND "available_at" IS NOT NULL;
CREATE INDEX "inbox_dead" ON "outbox"."inbox" ("finished_at") WHERE "state" = 'dead';
-- What retention may remove.
CREATE INDEX "inbox_handled" ON "outbox"."inbox" ("consumer", "finished_at") WHERE "state" = 'handled';
-- Few at any time: what a handler was running, or took its process down with.
CREATE INDEX "inbox_started" ON "outbox"."inbox" ("consumer", "queue") WHERE "state" = 'started';

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

-- The functions are plpgsql because each of their statements sees what was committed while the one before it waited for
-- a lock (READ COMMITTED), in one round trip. Their plans are kept, so they must be right for a table of any size.

-- The advisory lock of a key, held until the transaction ends. Whoever claims, parks, resumes or buries takes it first,
-- unless keys have no order there: then a slow handler of a key is in nobody's way.
CREATE FUNCTION "outbox"."inbox_lock_of"("consumer" text, "queue" text, "key" text) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT hashtextextended($3 COLLATE "C", hashtextextended($2 COLLATE "C", hashtextextended($1 COLLATE "C", 7)))
$$;

-- Claims arrivals, a JSON array of {"i": message id, "d": destination, "k": key or null}; gives fresh, settled or behind
-- for each, in their order.
CREATE FUNCTION "outbox"."inbox_claim"("consumer" text, "queue" text, "arrivals" json, "ordered" boolean) RETURNS SETOF text
LANGUAGE plpgsql VOLATILE SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
  a record;
  claims text[] := array_fill(NULL::text, ARRAY[json_array_length($3)]);
BEGIN
  -- In the locks' own order, and then in the ids': two batches cannot wait for each other.
  IF $4 THEN
    PERFORM pg_advisory_xact_lock(l."lock")
    FROM (SELECT DISTINCT "outbox"."inbox_lock_of"($1, $2, a."k") AS "lock"
          FROM json_to_recordset($3) AS a ("k" text) WHERE a."k" IS NOT NULL ORDER BY 1) AS l;
  END IF;
  FOR a IN
    SELECT * FROM ROWS FROM (json_to_recordset($3) AS ("i" text, "d" text, "k" text)) WITH ORDINALITY AS r ("i", "d", "k", "ordinal")
    ORDER BY r."i" COLLATE "C", r."ordinal"
  LOOP
    IF $4 AND a."k" IS NOT NULL AND EXISTS (
      SELECT FROM "outbox"."inbox" p
      WHERE p."consumer" = $1 AND p."queue" = $2 AND p."key" = a."k" AND p."state" = 'parked') THEN
      claims[a."ordinal"] := CASE WHEN EXISTS (
        SELECT FROM "outbox"."inbox" m
        WHERE m."consumer" = $1 AND m."message_id" = a."i" AND m."state" <> 'started') THEN 'settled' ELSE 'behind' END;
    ELSE
      INSERT INTO "outbox"."inbox" AS m ("consumer", "message_id", "queue", "destination", "key", "state", "finished_at")
      VALUES ($1, a."i", $2, a."d", a."k", 'handled', clock_timestamp())
      ON CONFLICT ("consumer", "message_id") DO UPDATE SET "state" = 'handled', "finished_at" = clock_timestamp()
        WHERE m."state" = 'started';
      claims[a."ordinal"] := CASE WHEN FOUND THEN 'fresh' ELSE 'settled' END;
    END IF;
  END LOOP;
  RETURN QUERY SELECT unnest(claims);
END $$;

-- Claims one arrival: the same for the most frequent case, without what only several need.
CREATE FUNCTION "outbox"."inbox_claim_one"(
  "consumer" text, "queue" text, "message_id" text, "destination" text, "key" text, "ordered" boolean
) RETURNS text
LANGUAGE plpgsql VOLATILE SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
BEGIN
  IF $6 AND $5 IS NOT NULL THEN
    PERFORM pg_advisory_xact_lock("outbox"."inbox_lock_of"($1, $2, $5));
    IF EXISTS (
      SELECT FROM "outbox"."inbox" p
      WHERE p."consumer" = $1 AND p."queue" = $2 AND p."key" = $5 AND p."state" = 'parked') THEN
      RETURN CASE WHEN EXISTS (
        SELECT FROM "outbox"."inbox" m
        WHERE m."consumer" = $1 AND m."message_id" = $3 AND m."state" <> 'started') THEN 'settled' ELSE 'behind' END;
    END IF;
  END IF;
  INSERT INTO "outbox"."inbox" AS m ("consumer", "message_id", "queue", "destination", "key", "state", "finished_at")
  VALUES ($1, $3, $2, $4, $5, 'handled', clock_timestamp())
  ON CONFLICT ("consumer", "message_id") DO UPDATE SET "state" = 'handled', "finished_at" = clock_timestamp()
    WHERE m."state" = 'started';
  RETURN CASE WHEN FOUND THEN 'fresh' ELSE 'settled' END;
END $$;

-- Makes the first parked message of a key due, if it waits behind another that is gone. Never a later one: what an
-- operator requeues ends out of turn, and those behind it may wait for one before it.
CREATE FUNCTION "outbox"."inbox_promote"("consumer" text, "queue" text, "key" text) RETURNS void
LANGUAGE plpgsql VOLATILE SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
  head record;
BEGIN
  IF $3 IS NULL THEN RETURN; END IF;
  SELECT m."message_id", m."available_at" INTO head FROM "outbox"."inbox" m
  WHERE m."consumer" = $1 AND m."queue" = $2 AND m."key" = $3 AND m."state" = 'parked'
  ORDER BY m."position" LIMIT 1;
  IF head."message_id" IS NOT NULL AND head."available_at" IS NULL THEN
    UPDATE "outbox"."inbox" m SET "available_at" = clock_timestamp()
    WHERE m."consumer" = $1 AND m."message_id" = head."message_id";
  END IF;
END $$;

-- The lock of whoever resumes a message, until the transaction ends. False when another has it.
CREATE FUNCTION "outbox"."inbox_try_resume"("consumer" text, "message_id" text) RETURNS boolean
LANGUAGE sql VOLATILE AS $$
  SELECT pg_try_advisory_xact_lock(hashtextextended($2 COLLATE "C", hashtextextended($1 COLLATE "C", 8)))
$$;

-- Claims a parked message. False when it is parked no more, or when another transaction is resuming it.
CREATE FUNCTION "outbox"."inbox_resume"("consumer" text, "message_id" text, "ordered" boolean) RETURNS boolean
LANGUAGE plpgsql VOLATILE SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
  found_row record;
BEGIN
  IF NOT "outbox"."inbox_try_resume"($1, $2) THEN RETURN false; END IF;
  -- Not the bare column: the plan must take the primary key, and no index of what is parked.
  SELECT m."queue", m."key" INTO found_row FROM "outbox"."inbox" m
  WHERE m."consumer" = $1 AND m."message_id" = $2 AND m."state" || '' = 'parked';
  IF NOT FOUND THEN RETURN false; END IF;
  IF $3 AND found_row."key" IS NOT NULL THEN
    PERFORM pg_advisory_xact_lock("outbox"."inbox_lock_of"($1, found_row."queue", found_row."key"));
  END IF;
  UPDATE "outbox"."inbox" m
  SET "state" = 'handled', "finished_at" = clock_timestamp(), "available_at" = NULL, "headers" = NULL, "body" = NULL
  WHERE m."consumer" = $1 AND m."message_id" = $2 AND m."state" || '' = 'parked'
  RETURNING m."queue", m."key" INTO found_row;
  IF NOT FOUND THEN RETURN false; END IF;
  PERFORM "outbox"."inbox_promote"($1, found_row."queue", found_row."key");
  RETURN true;
END $$;

-- Parks a message, due after "millis"; null puts it behind what is parked of its key, or makes it due where nothing is.
CREATE FUNCTION "outbox"."inbox_park"(
  "consumer" text, "queue" text, "message_id" text, "destination" text, "key" text, "headers" json, "body" bytea,
  "attempts" integer, "error" text, "millis" double precision, "ordered" boolean
) RETURNS void LANGUAGE plpgsql VOLATILE SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
  due timestamptz := clock_timestamp() + $10 * interval '1 millisecond';
BEGIN
  IF $11 AND $5 IS NOT NULL THEN PERFORM pg_advisory_xact_lock("outbox"."inbox_lock_of"($1, $2, $5)); END IF;
  IF due IS NULL AND NOT EXISTS (
    SELECT FROM "outbox"."inbox" m
    WHERE m."consumer" = $1 AND m."queue" = $2 AND m."key" = $5 AND m."state" = 'parked') THEN
    due := clock_timestamp();
  END IF;
  INSERT INTO "outbox"."inbox" AS m
    ("consumer", "message_id", "queue", "destination", "key", "state", "attempts", "available_at", "last_error", "headers", "body")
  VALUES ($1, $3, $2, $4, $5, 'parked', $8, due, $9, $6, $7)
  ON CONFLICT ("consumer", "message_id") DO UPDATE SET
    "state" = 'parked', "attempts" = excluded."attempts", "started" = 0, "available_at" = excluded."available_at",
    "last_error" = coalesce(excluded."last_error", m."last_error"), "headers" = excluded."headers", "body" = excluded."body"
  WHERE m."state" = 'started' OR (m."state" = 'parked' AND $10 IS NOT NULL);
END $$;

-- Marks a message as dead, whether it is new, started or parked. False when it was handled or dead before.
CREATE FUNCTION "outbox"."inbox_bury"(
  "consumer" text, "queue" text, "message_id" text, "destination" text, "key" text, "headers" json, "body" bytea,
  "attempts" integer, "error" text, "ordered" boolean
) RETURNS boolean LANGUAGE plpgsql VOLATILE SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
  buried record;
BEGIN
  IF $10 AND $5 IS NOT NULL THEN PERFORM pg_advisory_xact_lock("outbox"."inbox_lock_of"($1, $2, $5)); END IF;
  INSERT INTO "outbox"."inbox" AS m
    ("consumer", "message_id", "queue", "destination", "key", "state", "attempts", "finished_at", "last_error", "headers", "body")
  VALUES ($1, $3, $2, $4, $5, 'dead', $8, clock_timestamp(), $9, $6, $7)
  ON CONFLICT ("consumer", "message_id") DO UPDATE SET
    "state" = 'dead', "attempts" = excluded."attempts", "available_at" = NULL, "finished_at" = excluded."finished_at",
    "last_error" = excluded."last_error", "headers" = excluded."headers", "body" = excluded."body"
  WHERE m."state" IN ('started', 'parked')
  RETURNING m."queue", m."key" INTO buried;
  IF NOT FOUND THEN RETURN false; END IF;
  PERFORM "outbox"."inbox_promote"($1, buried."queue", buried."key");
  RETURN true;
END $$;

INSERT INTO "outbox"."migrations" ("version") VALUES (2);
