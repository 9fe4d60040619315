-- No function of the outbox calls what somebody else has put onto a caller's search_path: every name in it is PostgreSQL's
-- own or the outbox's. What runs once a row names each function and operator, as a setting of its own would cost there;
-- the others search nothing but pg_catalog.

CREATE OR REPLACE FUNCTION "outbox"."uuid_v7"() RETURNS uuid LANGUAGE sql VOLATILE PARALLEL SAFE AS $$
  SELECT pg_catalog.encode(
    pg_catalog.set_bit(pg_catalog.set_bit(
      pg_catalog.overlay(pg_catalog.uuid_send(pg_catalog.gen_random_uuid()),
        pg_catalog.substring(
          pg_catalog.int8send((pg_catalog.date_part('epoch', pg_catalog.clock_timestamp()) OPERATOR(pg_catalog.*) 1000::pg_catalog.float8)::pg_catalog.int8),
          3), 1, 6),
      52, 1), 53, 1),
    'hex')::pg_catalog.uuid
$$;

ALTER FUNCTION "outbox"."emit"(text, text, text, text, text, json, text, text, timestamptz, timestamptz)
  SET search_path = pg_catalog, pg_temp;

CREATE OR REPLACE FUNCTION "outbox"."inbox_lock_of"("consumer" text, "queue" text, "key" text) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT pg_catalog.hashtextextended($3 COLLATE pg_catalog."C",
    pg_catalog.hashtextextended($2 COLLATE pg_catalog."C", pg_catalog.hashtextextended($1 COLLATE pg_catalog."C", 7)))
$$;

CREATE OR REPLACE FUNCTION "outbox"."inbox_try_resume"("consumer" text, "message_id" text) RETURNS boolean
LANGUAGE sql VOLATILE AS $$
  SELECT pg_catalog.pg_try_advisory_xact_lock(
    pg_catalog.hashtextextended($2 COLLATE pg_catalog."C", pg_catalog.hashtextextended($1 COLLATE pg_catalog."C", 8)))
$$;

ALTER FUNCTION "outbox"."inbox_claim"(text, text, json, boolean) SET search_path = pg_catalog, pg_temp;
ALTER FUNCTION "outbox"."inbox_claim_one"(text, text, text, text, text, boolean) SET search_path = pg_catalog, pg_temp;
ALTER FUNCTION "outbox"."inbox_promote"(text, text, text) SET search_path = pg_catalog, pg_temp;
ALTER FUNCTION "outbox"."inbox_resume"(text, text, boolean) SET search_path = pg_catalog, pg_temp;
ALTER FUNCTION "outbox"."inbox_park"(text, text, text, text, text, json, bytea, integer, text, double precision, boolean)
  SET search_path = pg_catalog, pg_temp;
ALTER FUNCTION "outbox"."inbox_bury"(text, text, text, text, text, json, bytea, integer, text, boolean)
  SET search_path = pg_catalog, pg_temp;

INSERT INTO "outbox"."migrations" ("version") VALUES (3);
