/** A PostgreSQL schema's name as a quoted identifier. Throws a `RangeError` for a name PostgreSQL could not keep whole (empty, NUL, half of a surrogate pair, over 63 bytes). */
export const quoteSchema = (name: string): string => {
  if (name === "" || name.includes("\0") || /\p{Surrogate}/u.test(name) || Buffer.byteLength(name) > 63)
    throw new RangeError(
      `${JSON.stringify(name)} is no name for a PostgreSQL schema: give 1 to 63 bytes of UTF-8 without NUL`,
    )
  return `"${name.replaceAll('"', '""')}"`
}
