/** What the migrations made, read from their own SQL, so that a later one is looked for as well. */
import { migrations } from "../../store/migrate.ts"
import { quoteSchema } from "../../store/schema-name.ts"

export interface MigratedIndex {
  readonly name: string
  readonly table: string
  /** The statement that makes it. */
  readonly statement: string
}

export interface MigratedTable {
  readonly name: string
  /** Storage settings; those of the TOAST table with the prefix "toast.". */
  readonly storage: ReadonlyMap<string, string>
}

export const migratedIndexes = (schema: string): ReadonlyArray<MigratedIndex> => {
  const found = new Map<string, MigratedIndex>()
  const quoted = escaped(quoteSchema(schema))
  for (const { sql } of migrations(schema)) {
    const created = new RegExp(
      `^CREATE (?:UNIQUE )?INDEX "(\\w+)" ON ${quoted}\\."(\\w+)"[\\s\\S]*?;$|^DROP INDEX ${quoted}\\."(\\w+)";$`,
      "gm",
    )
    for (const [statement, name, table, dropped] of sql.matchAll(created)) {
      if (dropped !== undefined) found.delete(dropped)
      if (name === undefined || table === undefined) continue
      found.set(name, { name, table, statement: statement.replace(/\s+/g, " ") })
    }
  }
  return [...found.values()]
}

export const migratedTables = (schema: string): ReadonlyArray<MigratedTable> =>
  migrations(schema).flatMap(({ sql }) => {
    const created = new RegExp(
      `^CREATE TABLE ${escaped(quoteSchema(schema))}\\."(\\w+)" \\([\\s\\S]*?^\\)(?: WITH \\(([\\s\\S]*?)\\))?;$`,
      "gm",
    )
    return [...sql.matchAll(created)].map(([, name = "", settings = ""]) => ({
      name,
      storage: new Map(
        [...settings.replace(/--.*$/gm, "").matchAll(/([\w.]+) = ([\w.]+)/g)].map(
          ([, setting = "", value = ""]) => [setting, value] as const,
        ),
      ),
    }))
  })

const escaped = (text: string): string => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")
