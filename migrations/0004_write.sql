-- The write path: messages written in the very statement of the user's insert, and cheaper ids where PostgreSQL makes them.

-- Refuses a message that such a statement would write: nothing of the statement stays. Its SQLSTATE and the JSON of its
-- detail tell the writer that the database has refused nothing of the user's own.
CREATE FUNCTION "outbox"."refuse"("event" text, "reason" text, "words" text) RETURNS text LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  RAISE EXCEPTION USING ERRCODE = 'OUTBX', MESSAGE = $3, DETAIL = json_build_object('event', $1, 'reason', $2)::text;
END
$$;

-- From PostgreSQL 18 on its own UUIDv7, at two thirds of the cost.
DO $$
BEGIN
  IF current_setting('server_version_num')::integer >= 180000 THEN
    CREATE OR REPLACE FUNCTION "outbox"."uuid_v7"() RETURNS uuid LANGUAGE sql VOLATILE PARALLEL SAFE AS 'SELECT pg_catalog.uuidv7()';
  END IF;
END
$$;

INSERT INTO "outbox"."migrations" ("version") VALUES (4);
