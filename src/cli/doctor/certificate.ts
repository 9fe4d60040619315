/** The certificate that a broker shows. */
import { connect } from "node:tls"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { TlsOptions } from "../../broker/stomp/wire.ts"

export interface SeenCertificate {
  readonly subject: string
  readonly validTo: Date
}

/** Looks at it without trusting it: nothing is sent. `undefined` where none is shown within 5 seconds. */
export const certificateOf = (
  host: string,
  port: number,
  { servername, cert, key }: TlsOptions,
): Effect.Effect<SeenCertificate | undefined> =>
  Effect.callback<SeenCertificate | undefined>((resume) => {
    const name = servername ?? (/^[\d.:]+$/.test(host) ? "" : host)
    const socket = connect(
      {
        host,
        port,
        servername: name,
        rejectUnauthorized: false,
        ...(cert === undefined ? {} : { cert }),
        ...(key === undefined ? {} : { key }),
      },
      () => {
        const seen = socket.getPeerCertificate()
        socket.destroy()
        const validTo = new Date(seen.valid_to ?? Number.NaN)
        const { CN } = seen.subject ?? {}
        resume(
          Effect.succeed(
            Number.isNaN(validTo.getTime()) ? undefined : { subject: String(CN ?? host), validTo },
          ),
        )
      },
    )
    socket.on("error", () => resume(Effect.succeed(undefined)))
    return Effect.sync(() => void socket.destroy())
  }).pipe(Effect.timeoutOption("5 seconds"), Effect.map(Option.getOrUndefined))
