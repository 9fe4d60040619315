/** Each host of the broker: whether it lets us in, how it proves itself, how it notices the dead. */
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import { Broker, type BrokerError } from "../../broker/broker.ts"
import { type Endpoint, parseEndpoint } from "../../broker/stomp/endpoint.ts"
import { type BrokerConfig, brokerLayer, brokerTlsOf, brokerUrlsOf } from "../broker.ts"
import { formatMillis } from "../duration.ts"
import { certificateOf } from "./certificate.ts"
import { type Finding, ok, problem, unchecked, warning } from "./finding.ts"

export interface BrokerFindings {
  readonly findings: ReadonlyArray<Finding>
  /** "rabbitmq", "activemq", …: of the first host that answered. */
  readonly profile: string | undefined
}

export const checkBroker = (config: BrokerConfig): Effect.Effect<BrokerFindings> =>
  Effect.gen(function* () {
    const findings: Finding[] = []
    let profile: string | undefined
    for (const [index, url] of brokerUrlsOf(config).entries()) {
      const parsed = parsedEndpoint(url, index)
      if ("message" in parsed) {
        findings.push(
          problem("broker.connect", `broker URL ${index + 1}`, parsed.message, "mend OUTBOX_BROKER_URL"),
        )
        continue
      }
      const tried = yield* Effect.result(connectOnce(config, url))
      findings.push(
        ...(yield* checkTls(config, parsed)),
        ...(tried._tag === "Success"
          ? connected(config, parsed, tried.success)
          : [refused(parsed, tried.failure)]),
      )
      if (tried._tag === "Success") profile ??= tried.success.profile.name
    }
    return { findings, profile }
  })

const parsedEndpoint = (url: Redacted.Redacted<string>, index: number): Endpoint | BrokerError => {
  try {
    return parseEndpoint(Redacted.value(url), index)
  } catch (error) {
    return error as BrokerError
  }
}

const connectOnce = (config: BrokerConfig, url: Redacted.Redacted<string>) =>
  Effect.scoped(
    Effect.flatMap(Broker, (broker) =>
      Effect.map(broker.connect(), ({ profile, lingerMillis }) => ({ profile, lingerMillis })),
    ),
  ).pipe(Effect.provide(brokerLayer(config, url)))

const connected = (
  config: BrokerConfig,
  { label, virtualHost }: Endpoint,
  { profile, lingerMillis }: Effect.Success<ReturnType<typeof connectOnce>>,
): ReadonlyArray<Finding> => {
  const vhost = config.vhost ?? virtualHost ?? "/"
  const server = profile.server === "" ? "an unnamed broker" : profile.server
  const findings = [ok("broker.connect", label, `${server}, virtual host "${vhost}"`)]
  if (profile.name === "unknown")
    findings.push(
      warning(
        "broker.unknown",
        label,
        `${server} is none that this version knows: one message of a key is sent at a time`,
      ),
    )
  else if (lingerMillis === Number.POSITIVE_INFINITY)
    findings.push(
      warning(
        "broker.heartbeat",
        label,
        "no heart-beats are agreed on: a network that died goes unnoticed, and what a dead client held stays with it",
        "set OUTBOX_HEARTBEAT (10 s), and see the broker's own heart-beat setting",
      ),
    )
  else
    findings.push(
      ok("broker.heartbeat", label, `drops a client that was silent for ${formatMillis(lingerMillis)}`),
    )
  return findings
}

const refused = ({ label }: Endpoint, { reason, message }: BrokerError): Finding =>
  problem(
    "broker.connect",
    label,
    message.startsWith(`${label}: `) ? message.slice(label.length + 2) : message,
    reason === "unreachable" || reason === "timeout"
      ? "see that it runs and listens there for STOMP (RabbitMQ: rabbitmq-plugins enable rabbitmq_stomp), and that no firewall is in between"
      : "see user, password, virtual host and TLS settings; on RabbitMQ the user needs a permission on the virtual host, and guest may only come from the same machine",
  )

const EXPIRES_SOON = 30 * 86_400_000

const checkTls = (config: BrokerConfig, { scheme, host, port, label }: Endpoint) =>
  Effect.gen(function* () {
    if (scheme === "stomp" || scheme === "ws")
      return isLocal(host)
        ? []
        : [
            warning(
              "broker.tls",
              label,
              "without TLS: the password and every message can be read and changed on the way",
              `use ${scheme === "stomp" ? "stomps" : "wss"}://, unless this network is yours alone`,
            ),
          ]
    const findings: Finding[] = []
    const tls = brokerTlsOf(config)
    if (!config.brokerTlsVerify)
      findings.push(
        problem(
          "broker.tls",
          label,
          "its certificate is not verified (OUTBOX_BROKER_TLS_VERIFY=off): whoever sits in between reads and changes everything",
          "give its authority as OUTBOX_BROKER_TLS_CA and set OUTBOX_BROKER_TLS_VERIFY=on",
        ),
      )
    const seen = yield* certificateOf(host, port, tls)
    if (seen === undefined) {
      findings.push(unchecked("broker.certificate", label, "no certificate was seen"))
      return findings
    }
    const left = seen.validTo.getTime() - Date.now()
    const day = seen.validTo.toISOString().slice(0, 10)
    findings.push(
      left < EXPIRES_SOON
        ? problem(
            "broker.certificate",
            label,
            `the certificate of "${seen.subject}" ${left < 0 ? "has expired on" : `expires in ${formatMillis(left)}, on`} ${day}`,
            "renew it, and have the broker load it",
          )
        : ok("broker.certificate", label, `the certificate of "${seen.subject}" is good until ${day}`),
    )
    return findings
  })

/** What never leaves this machine. */
const isLocal = (host: string): boolean => /^(localhost|127\.[\d.]+|::1|.*\.localhost)$/.test(host)
