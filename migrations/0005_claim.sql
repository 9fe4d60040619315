-- A batch of arrivals is claimed by three statements, not by two for each arrival, at half the cost.

-- Claims arrivals, a JSON array of {"i": message id, "d": destination, "k": key or null}; gives fresh, settled or behind
-- for each, in their order.
CREATE OR REPLACE FUNCTION "outbox"."inbox_claim"("consumer" text, "queue" text, "arrivals" json, "ordered" boolean) RETURNS SETOF text
LANGUAGE plpgsql VOLATILE SET enable_seqscan = off SET plan_cache_mode = force_generic_plan SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  ids text[];
  destinations text[];
  keys text[];
  -- Keys of which something is parked.
  holding text[];
  fresh text[];
BEGIN
  SELECT array_agg(r."i" ORDER BY r."n"), array_agg(r."d" ORDER BY r."n"), array_agg(r."k" ORDER BY r."n")
  INTO ids, destinations, keys
  FROM ROWS FROM (json_to_recordset($3) AS ("i" text, "d" text, "k" text)) WITH ORDINALITY AS r ("i", "d", "k", "n");
  IF $4 THEN
    -- In the locks' own order, and then in the ids': two batches cannot wait for each other.
    PERFORM pg_advisory_xact_lock(l."lock")
    FROM (SELECT DISTINCT "outbox"."inbox_lock_of"($1, $2, a."k") AS "lock"
          FROM unnest(keys) AS a ("k") WHERE a."k" IS NOT NULL ORDER BY 1) AS l;
    SELECT array_agg(a."k") INTO holding
    FROM (SELECT DISTINCT k."k" FROM unnest(keys) AS k ("k")) AS a
    WHERE EXISTS (
      SELECT FROM "outbox"."inbox" p
      WHERE p."consumer" = $1 AND p."queue" = $2 AND p."key" = a."k" AND p."state" = 'parked');
  END IF;
  WITH recorded AS (
    INSERT INTO "outbox"."inbox" AS m ("consumer", "message_id", "queue", "destination", "key", "state", "finished_at")
    SELECT $1, a."i", $2, a."d", a."k", 'handled', clock_timestamp()
    FROM (SELECT DISTINCT ON (u."i" COLLATE "C") u."i", u."d", u."k"
          FROM unnest(ids, destinations, keys) WITH ORDINALITY AS u ("i", "d", "k", "n")
          WHERE holding IS NULL OR u."k" IS NULL OR u."k" <> ALL (holding)
          ORDER BY u."i" COLLATE "C", u."n") AS a
    ON CONFLICT ("consumer", "message_id") DO UPDATE SET "state" = 'handled', "finished_at" = clock_timestamp()
      WHERE m."state" = 'started'
    RETURNING m."message_id"
  )
  SELECT array_agg(recorded."message_id") INTO fresh FROM recorded;
  IF cardinality(fresh) = cardinality(ids) THEN
    RETURN QUERY SELECT 'fresh'::text FROM unnest(ids);
    RETURN;
  END IF;
  -- Of an id that came twice the first is the fresh one.
  RETURN QUERY
    SELECT CASE
      WHEN f."i" IS NOT NULL AND a."nth" = 1 THEN 'fresh'
      WHEN a."k" = ANY (holding) AND NOT EXISTS (
        SELECT FROM "outbox"."inbox" m
        WHERE m."consumer" = $1 AND m."message_id" = a."i" AND m."state" <> 'started') THEN 'behind'
      ELSE 'settled' END
    FROM (SELECT u.*, row_number() OVER (PARTITION BY u."i" ORDER BY u."n") AS "nth"
          FROM unnest(ids, keys) WITH ORDINALITY AS u ("i", "k", "n")) AS a
    LEFT JOIN unnest(fresh) AS f ("i") ON f."i" = a."i"
    ORDER BY a."n";
END $$;

INSERT INTO "outbox"."migrations" ("version") VALUES (5);
