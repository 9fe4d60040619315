/** What the words of a database URL about TLS mean: psql's words, psql's meaning. */

import { chmodSync, chownSync, statSync } from "node:fs"
import { Effect } from "effect"
import { afterAll, beforeAll, describe, expect, inject, it } from "vitest"
import { connect } from "../../src/store/connect.ts"
import { readDatabaseUrl } from "../../src/store/database-url.ts"
import { cli } from "../cli/program.ts"
import { type Certificates, makeCertificates } from "../support/certificates.ts"
import { type PostgresServer, startPostgres } from "../support/embedded-postgres.ts"

let certificates: Certificates
const servers: Array<PostgresServer> = []

/** A server with a certificate for these names. */
const serve = async (name: string, altNames: string): Promise<PostgresServer> => {
  const server = await startPostgres({ fsync: "off" })
  servers.push(server)
  const { certFile, keyFile } = certificates.issue(name, altNames)
  const owner = statSync(`${server.folder}/data`)
  chmodSync(certificates.folder, 0o755)
  for (const file of [certFile, keyFile]) chownSync(file, owner.uid, owner.gid)
  chmodSync(keyFile, 0o600)
  await Effect.runPromise(
    Effect.scoped(
      Effect.flatMap(connect({ url: server.url, connections: 1, prepare: false }), (sql) =>
        Effect.promise(async () => {
          for (const [setting, value] of Object.entries({
            ssl_cert_file: certFile,
            ssl_key_file: keyFile,
            ssl: "on",
          }))
            await sql.unsafe(`ALTER SYSTEM SET ${setting} = '${value}'`)
          await sql`SELECT pg_reload_conf()`
        }),
      ),
    ),
  )
  return server
}

/** The version of TLS that a connection with these parameters uses, null without; or why there is none. */
const tlsOf = (
  server: { readonly url: string },
  parameters: string,
  host = "localhost",
): Promise<string | null> =>
  Effect.runPromise(
    Effect.scoped(
      Effect.flatMap(
        connect({
          url: `${server.url.replace("127.0.0.1", host)}${parameters}`,
          connections: 1,
          prepare: false,
        }),
        (sql) =>
          Effect.promise(async () => {
            const [row] = await sql`SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()`
            return row?.["version"] as string | null
          }),
      ),
    ).pipe(Effect.catch((error) => Effect.succeed(`${error.reason}: ${error.message}`))),
  )

let good: PostgresServer
let other: PostgresServer
let ca: string
beforeAll(async () => {
  certificates = makeCertificates()
  ca = `sslrootcert=${certificates.caFile}`
  good = await serve("good", "DNS:localhost,IP:127.0.0.1")
  other = await serve("other", "DNS:elsewhere.example")
})
afterAll(async () => {
  for (const server of servers) await server.remove()
  certificates?.remove()
})

describe("a database URL", () => {
  it.each([
    ["", null],
    ["?sslmode=disable", null],
    ["?sslmode=prefer", /^TLSv1/],
    ["?sslmode=require", /^TLSv1/],
    ["?sslmode=verify-full", /statement: .*certificate.*; give the authority that signed it as sslrootcert/],
    ["?sslmode=verify-ca", /statement: .*certificate.*; give the authority/],
  ])("with %s, of an authority that nobody named", async (parameters, expected) => {
    const tls = await tlsOf(good, parameters)
    if (expected === null) expect(tls).toBeNull()
    else expect(tls).toMatch(expected)
  })

  it.each(["localhost", "127.0.0.1"])("with its authority, at %s", async (host) => {
    for (const mode of ["sslmode=verify-full&", "sslmode=verify-ca&", "sslmode=require&", ""])
      expect(await tlsOf(good, `?${mode}${ca}`, host), mode).toMatch(/^TLSv1/)
  })

  it.each(["localhost", "127.0.0.1"])("of another host than %s", async (host) => {
    expect(await tlsOf(other, `?sslmode=verify-full&${ca}`, host)).toMatch(
      /^statement: .*(does not match certificate|not in the cert's list)/,
    )
    for (const mode of ["verify-ca", "require"])
      expect(await tlsOf(other, `?sslmode=${mode}&${ca}`, host), mode).toMatch(/^TLSv1/)
  })

  it("never falls back to plain text, but with prefer", async () => {
    const plain = { url: inject("postgres") }
    expect(await tlsOf(plain, "?sslmode=prefer")).toBeNull()
    for (const mode of ["require", "verify-ca", "verify-full"])
      expect(await tlsOf(plain, `?sslmode=${mode}&${ca}`), mode).toMatch(/^\w+: could not connect/)
  })

  it("with words that mean nothing says so, and no more", () => {
    for (const [parameters, words] of [
      [
        "sslmode=verify_full",
        /its sslmode is "verify_full": expected disable, prefer, require, verify-ca or/,
      ],
      ["sslrootcert=/nowhere.pem", /its sslrootcert "\/nowhere\.pem" is no PEM file/],
      ["sslmode=require&sslkey=/etc/hostname", /its sslkey "\/etc\/hostname" is no PEM file/],
    ] as const) {
      const read = () => readDatabaseUrl(`postgres://u:s3cret@h/d?${parameters}`, {})
      expect(read).toThrow(words)
      expect(read).not.toThrow(/s3cret/)
    }
  })

  it("says what PGSSLMODE and PGSSLROOTCERT say where it is silent", () => {
    const environment = { PGSSLMODE: "verify-full", PGSSLROOTCERT: certificates.caFile }
    expect(readDatabaseUrl("postgres://h/d?a=b", environment)).toEqual({
      url: "postgres://h/d?a=b",
      ssl: { ca: certificates.ca, rejectUnauthorized: true },
    })
    expect(readDatabaseUrl("postgres://h/d?sslmode=disable", environment).ssl).toBe(false)
  })
})

it("the programs verify, too", async () => {
  const url = good.url.replace("127.0.0.1", "localhost")
  const trusting = await cli(["migrate"], { OUTBOX_DATABASE_URL: `${url}?sslmode=verify-full&${ca}` })
  expect([trusting.stderr, trusting.code]).toEqual(["", 0])
  const blind = await cli(["status"], { OUTBOX_DATABASE_URL: `${url}?sslmode=verify-full` })
  expect(blind.stderr).toMatch(/give the authority that signed it as sslrootcert/)
  expect(blind.code).toBe(1)
})
