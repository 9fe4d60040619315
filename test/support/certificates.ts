/** An authority of our own and what it signs, good and bad, made by `openssl`. */
import { execFileSync } from "node:child_process"
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"

export interface Certificate {
  readonly cert: string
  readonly key: string
  readonly certFile: string
  readonly keyFile: string
}

export interface Certificates {
  readonly folder: string
  readonly caFile: string
  readonly ca: string
  /** Signed for these names, in the form of subjectAltName: `DNS:localhost,IP:127.0.0.1`. */
  readonly issue: (name: string, altNames: string, validity?: Validity) => Certificate
  /** Signed by nobody but itself, for localhost and 127.0.0.1. */
  readonly selfSigned: () => Certificate
  readonly remove: () => void
}

/** `expired`: it was valid until yesterday; `early`: it will be tomorrow. */
export type Validity = "valid" | "expired" | "early"

const DAY = 86_400_000

/** `20260131120000Z` */
const moment = (days: number): string =>
  `${new Date(Date.now() + days * DAY).toISOString().replace(/\D/g, "").slice(0, 14)}Z`

const periods: Readonly<Record<Validity, readonly [number, number]>> = {
  valid: [-1, 30],
  expired: [-30, -1],
  early: [1, 30],
}

export const makeCertificates = (): Certificates => {
  const folder = mkdtempSync(join(tmpdir(), "outbox-certificates-"))
  const at = (file: string) => join(folder, file)
  const openssl = (...args: ReadonlyArray<string>) => {
    try {
      execFileSync("openssl", [...args], { cwd: folder, stdio: ["ignore", "pipe", "pipe"] })
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error
      throw new Error("no openssl, which makes the certificates of these tests: apt-get install openssl")
    }
  }
  const newKey = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
  const files = (name: string): Certificate => ({
    certFile: at(`${name}.pem`),
    keyFile: at(`${name}.key`),
    cert: readFileSync(at(`${name}.pem`), "utf8"),
    key: readFileSync(at(`${name}.key`), "utf8"),
  })
  writeFileSync(at("index"), "")
  writeFileSync(
    at("config"),
    `[ca]\ndefault_ca=ours\n[ours]\ndatabase=${at("index")}\nnew_certs_dir=${folder}\nrand_serial=yes\ndefault_md=sha256\npolicy=any\nunique_subject=no\ncopy_extensions=copy\n[any]\ncommonName=supplied\n`,
  )
  const selfSign = (name: string, ...extensions: ReadonlyArray<string>) =>
    openssl(
      ...["req", "-x509", ...newKey, "-keyout", `${name}.key`, "-out", `${name}.pem`, "-days", "30"],
      ...["-subj", `/CN=${name}`, ...extensions.flatMap((extension) => ["-addext", extension])],
    )
  selfSign("authority", "keyUsage=critical,keyCertSign")
  return {
    folder,
    caFile: at("authority.pem"),
    ca: readFileSync(at("authority.pem"), "utf8"),
    issue: (name, altNames, validity = "valid") => {
      const [start, end] = periods[validity]
      openssl(
        ...["req", "-new", ...newKey, "-keyout", `${name}.key`, "-out", `${name}.csr`],
        ...["-subj", `/CN=${name}`, "-addext", `subjectAltName=${altNames}`],
      )
      openssl(
        ...["ca", "-batch", "-notext", "-config", "config", "-cert", "authority.pem"],
        ...["-keyfile", "authority.key", "-startdate", moment(start), "-enddate", moment(end)],
        ...["-in", `${name}.csr`, "-out", `${name}.pem`],
      )
      return files(name)
    },
    selfSigned: () => {
      selfSign("itself", "subjectAltName=DNS:localhost,IP:127.0.0.1")
      return files("itself")
    },
    remove: () => rmSync(folder, { recursive: true, force: true }),
  }
}
