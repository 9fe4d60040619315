/** What writers, relays and consumers do in the database, and whether this role may. */
import { quoteSchema } from "../../store/schema-name.ts"
import type { Query } from "./database.ts"
import { type Finding, ok, problem, unchecked } from "./finding.ts"

export type Part = "writer" | "relay" | "consumer"

type Privilege = "SELECT" | "INSERT" | "UPDATE" | "DELETE"

const all: ReadonlyArray<Privilege> = ["SELECT", "INSERT", "UPDATE", "DELETE"]

/** By table; a privilege on some columns is enough. */
const NEEDS: Readonly<Record<Part, Readonly<Record<string, ReadonlyArray<Privilege>>>>> = {
  writer: { messages: ["INSERT"] },
  relay: {
    messages: ["SELECT", "UPDATE", "DELETE"],
    relays: all,
    lanes: ["SELECT", "UPDATE"],
    migrations: ["SELECT"],
  },
  consumer: {
    inbox: all,
    consumers: all,
    subscriptions: ["SELECT", "INSERT", "UPDATE"],
    migrations: ["SELECT"],
  },
}

/** By the beginning of their names. */
const FUNCTIONS: Readonly<Record<Part, ReadonlyArray<string>>> = {
  writer: ["uuid_v7"],
  relay: [],
  consumer: ["inbox_"],
}

/** `part`: what this role is meant to be; without it a role may be any one of them. */
export const checkPrivileges = async (
  sql: Query,
  schema: string,
  part: Part | undefined,
): Promise<ReadonlyArray<Finding>> => {
  const [role] = await sql<[{ name: string; usage: boolean }]>`
    SELECT current_user AS name, has_schema_privilege(${schema}, 'USAGE') AS usage`
  const lacks: Record<Part, string[]> = { writer: [], relay: [], consumer: [] }
  for (const which of ["writer", "relay", "consumer"] as const) {
    if (!role.usage) lacks[which].push(`USAGE ON SCHEMA ${quoteSchema(schema)}`)
    else lacks[which].push(...(await lackingOf(sql, schema, which)))
  }
  const where = `role "${role.name}"`
  const grants = (which: Part) => lacks[which].map((lack) => `GRANT ${lack} TO "${role.name}";`).join(" ")
  const lacking = (which: Part) => `may not be a ${which}: it lacks ${lacks[which].join(", ")}`
  if (part !== undefined)
    return [
      lacks[part].length === 0
        ? ok("database.privileges", where, `may be a ${part}`)
        : problem("database.privileges", where, lacking(part), grants(part)),
    ]
  const parts = Object.keys(lacks) as Part[]
  const able = parts.filter((which) => lacks[which].length === 0)
  if (able.length === parts.length)
    return [ok("database.privileges", where, "may be a writer, a relay and a consumer")]
  if (able.length === 0)
    return [
      problem(
        "database.privileges",
        where,
        "may be none of writer, relay and consumer",
        `for a writer: ${grants("writer")} for the others see doctor --as relay, --as consumer`,
      ),
    ]
  return [
    ok("database.privileges", where, `may be a ${able.join(" and a ")}`),
    ...parts
      .filter((which) => !able.includes(which))
      .map((which) =>
        unchecked("database.privileges", where, `${lacking(which)} (--as ${which} if it should be one)`),
      ),
  ]
}

/** As GRANT names them. */
const lackingOf = async (sql: Query, schema: string, part: Part): Promise<ReadonlyArray<string>> => {
  const wanted = Object.entries(NEEDS[part]).flatMap(([table, privileges]) =>
    privileges.map((privilege) => ({ table: `${quoteSchema(schema)}.${quoteSchema(table)}`, privilege })),
  )
  const rows = await sql<{ table: string; privilege: string }[]>`
    SELECT w."table", w.privilege FROM json_to_recordset(${JSON.stringify(wanted)}::text::json) AS w("table" text, privilege text)
    WHERE NOT CASE WHEN w.privilege = 'DELETE' THEN has_table_privilege(w."table", w.privilege)
                   ELSE has_any_column_privilege(w."table", w.privilege) END`
  const functions = await sql<{ name: string }[]>`
    SELECT p.oid::regprocedure::text AS name FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
    WHERE n.nspname = ${schema} AND NOT has_function_privilege(p.oid, 'EXECUTE')
      AND EXISTS (SELECT FROM json_array_elements_text(${JSON.stringify(FUNCTIONS[part])}::text::json) AS f(name)
                  WHERE starts_with(p.proname, f.name))`
  // Without it last_value is hidden, and a relay that starts reads from the very beginning.
  const sequences =
    part === "relay"
      ? await sql<{ name: string }[]>`
          SELECT q.name FROM (SELECT pg_get_serial_sequence(${`${quoteSchema(schema)}.messages`}::text, 'position') AS name) q
          WHERE q.name IS NOT NULL AND NOT has_sequence_privilege(q.name, 'SELECT')
            AND NOT has_sequence_privilege(q.name, 'USAGE')`
      : []
  return [
    ...rows.map(({ table, privilege }) => `${privilege} ON ${table}`),
    ...functions.map(({ name }) => `EXECUTE ON FUNCTION ${name}`),
    ...sequences.map(({ name }) => `SELECT ON SEQUENCE ${name}`),
  ]
}
