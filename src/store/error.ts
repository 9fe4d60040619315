import { DrizzleQueryError } from "drizzle-orm/errors"
import * as Data from "effect/Data"

/**
 * A statement of the outbox's own did not succeed.
 *
 * `unavailable`: the database is away, out of connections or shutting down; `schema`: the outbox's tables are missing,
 * older or newer than this program, or not as it needs them; `statement`: the database refused the statement.
 */
export class StoreError extends Data.TaggedError("StoreError")<{
  readonly reason: "unavailable" | "schema" | "statement"
  readonly message: string
  readonly cause?: unknown
}> {
  /** Whether the same statement can succeed later without anybody changing anything. */
  get isRetryable(): boolean {
    return this.reason === "unavailable"
  }
}

/** SQLSTATE classes that mean "not now": 08 connection, 53 resources, 57P0x shutdown; 40 serialization and deadlock; 25006 a standby. */
const NOT_NOW = /^(08|53|57P|40|25006|58)/

/** SQLSTATEs with which the server ends a connection: 08, shutdown, and the session's own time limits. */
const LAST_WORDS = /^(08|57P|25P03|25P04)/

/** What postgres.js and the network give for a connection that is gone or never came. */
const GONE = new Set([
  "CONNECTION_CLOSED",
  "CONNECTION_DESTROYED",
  "CONNECTION_ENDED",
  "CONNECT_TIMEOUT",
  "ECONNREFUSED",
  "ECONNRESET",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "ENOENT",
  "ENOTFOUND",
  "EPIPE",
  "ETIMEDOUT",
])

/** node-postgres has no codes for the same; nor PGlite once it is closed. */
const GONE_WORDS =
  /^Connection terminated|not queryable$|^timeout exceeded when trying to connect|^Client was closed|^Cannot use a pool after|^PGlite is closed/

/** Whether what a statement threw means that its connection is gone, or never came. */
export const isDisconnection = (thrown: unknown): boolean => {
  const cause = rootOf(thrown)
  const code = codeOf(cause)
  return code === undefined
    ? cause instanceof Error && GONE_WORDS.test(cause.message)
    : LAST_WORDS.test(code) || GONE.has(code)
}

/** Sorts whatever a statement threw; `doing` completes "could not …". */
export const storeError = (doing: string, thrown: unknown): StoreError => {
  const cause = rootOf(thrown)
  const code = codeOf(cause)
  const words = cause instanceof Error ? cause.message : String(cause)
  if (code === "42P01" || code === "3F000" || code === "42703" || code === "42883")
    return new StoreError({
      reason: "schema",
      message: `could not ${doing}: ${words}; run "drizzle-outbox migrate" on this database`,
      cause,
    })
  const advice = adviceFor(code ?? "")
  if (advice !== undefined)
    return new StoreError({ reason: "statement", message: `could not ${doing}: ${words}${advice}`, cause })
  const later = isDisconnection(cause) || (code !== undefined && NOT_NOW.test(code))
  const reason = later ? "unavailable" : "statement"
  return new StoreError({ reason, message: `could not ${doing}: ${words}`, cause })
}

/** What somebody has to do about it, and where it is written. */
const adviceFor = (code: string): string | undefined => {
  if (code === "42501") return "; docs/security.md has the grants that each role needs"
  if (/SELF_SIGNED|UNABLE_TO_(VERIFY|GET_ISSUER)|CERT_UNTRUSTED|CERT_SIGNATURE/.test(code))
    return "; give the authority that signed it as sslrootcert of the database URL"
  return undefined
}

/** The driver's own error: Drizzle wraps it in one that quotes the statement and its parameters. */
const rootOf = (thrown: unknown): unknown =>
  thrown instanceof DrizzleQueryError && thrown.cause !== undefined ? rootOf(thrown.cause) : thrown

const codeOf = (cause: unknown): string | undefined =>
  typeof cause === "object" && cause !== null && "code" in cause && typeof cause.code === "string"
    ? cause.code
    : undefined
