/** A PostgreSQL schema's name as a quoted identifier. Throws a `RangeError` for a name PostgreSQL could not keep whole (empty, NUL, over 63 bytes). */
export const quoteSchema = (name: string): string => {
  if (name === "" || name.includes("\0") || Buffer.byteLength(name) > 63)
    throw new RangeError(`"${name}" is no name for a PostgreSQL schema: give 1 to 63 bytes without NUL`)
  return `"${name.replaceAll('"', '""')}"`
}
