/** Why there is no connection, in words that say what to do. No password is in them. */
import { BrokerError } from "../broker.ts"
import type { Endpoint } from "./endpoint.ts"
import type { SessionEnd } from "./session.ts"

/** The broker answered, and said no. */
export const refusedToConnect = (endpoint: Endpoint, words: string): BrokerError => {
  if (/InvalidClientIDException|already connected from/.test(words)) {
    const message = `${endpoint.label} has another connection with this durable subscription: ${words}`
    return new BrokerError({ reason: "taken", message })
  }
  const who = endpoint.login === undefined ? "without a login" : `as "${endpoint.login}"`
  const message = `${endpoint.label} refused the connection ${who} to the virtual host "${endpoint.virtualHost ?? "/"}": ${words}`
  return new BrokerError({ reason: "refused", message })
}

/** The session ended before the broker answered CONNECT. */
export const failedToConnect = (endpoint: Endpoint, end: SessionEnd): BrokerError => {
  const { label } = endpoint
  if (end._tag === "garbage") {
    const message = `${label} does not speak STOMP: it answered ${end.words}; check the port (RabbitMQ: 61613, or 15674 with the path /ws for WebSocket)`
    return new BrokerError({ reason: "refused", message })
  }
  if (end._tag === "silent" || end.error === undefined) {
    const message = `${label} closed the connection before it answered CONNECT`
    return new BrokerError({ reason: "unreachable", message })
  }
  const { error } = end
  const advice = adviceFor(error)
  return new BrokerError({
    reason: advice === undefined ? "unreachable" : "refused",
    message: `${label}: ${advice ?? wordsFor(error)}`,
    cause: error,
  })
}

/** OpenSSL's own words are a line of its source. */
const alertOf = (error: Error): string => /alert ([a-z ]+)/.exec(error.message)?.[1] ?? error.message

const codeOf = (error: Error): string =>
  "code" in error && typeof error.code === "string" ? error.code : error.name

const wordsFor = (error: Error): string =>
  error.message.includes("before secure TLS connection")
    ? "closed before TLS was established: does this port speak TLS?"
    : error.message || codeOf(error)

/** What only a change of settings can mend. */
const adviceFor = (error: Error): string | undefined => {
  const code = codeOf(error)
  if (code === "ERR_TLS_CERT_ALTNAME_INVALID") {
    return `the certificate is for another host: set tls.servername (OUTBOX_BROKER_TLS_SERVERNAME) to the name it carries (${error.message})`
  }
  if (code === "CERT_HAS_EXPIRED") return "the certificate has expired"
  if (code === "CERT_NOT_YET_VALID") return "the certificate is not valid yet: is this machine's clock right?"
  if (/SELF_SIGNED|UNABLE_TO_(VERIFY|GET_ISSUER)|CERT_UNTRUSTED|CERT_SIGNATURE/.test(code)) {
    return `the certificate is not trusted (${error.message}): give the authority that signed it as tls.ca (OUTBOX_BROKER_TLS_CA)`
  }
  if (/ALERT_(CERTIFICATE|BAD_CERTIFICATE|UNKNOWN_CA|HANDSHAKE_FAILURE|NO_CERTIFICATE)/.test(code)) {
    return `it does not accept this client's certificate, or wants one (${alertOf(error)}): give tls.cert and tls.key (OUTBOX_BROKER_TLS_CERT, OUTBOX_BROKER_TLS_KEY), signed by an authority that it trusts`
  }
  if (code === "EPROTO" || code.startsWith("ERR_SSL")) {
    return "no TLS on this port, or none that both sides accept: check the scheme and the port"
  }
  const status = /^Unexpected server response: (\d+)$/.exec(error.message)?.[1]
  if (status !== undefined) {
    return `HTTP status ${status} instead of a WebSocket: check the path (RabbitMQ: /ws) and the port (15674)`
  }
  return undefined
}
