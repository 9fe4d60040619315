/** `drizzle-outbox doctor` */
import * as Effect from "effect/Effect"
import { BROKER_DETAILS } from "./broker.ts"
import { defineCommand, print } from "./command.ts"
import { DOCTOR_SETTINGS, examine } from "./doctor/examine.ts"
import { jsonFindings, needsAction, readableFindings } from "./doctor/report.ts"
import { duration } from "./duration.ts"
import { CliError } from "./failure.ts"
import { choice, type Kind } from "./kind.ts"

const destinationList: Kind<ReadonlyArray<string>> = {
  placeholder: "DESTINATION…",
  expected: "destinations such as /topic/orders.v2",
  read: (given) => {
    const destinations = given.split("\n").map((line) => line.trim())
    return destinations.every((destination) => destination.startsWith("/")) ? destinations : undefined
  },
}

export const doctorCommand = defineCommand({
  name: "doctor",
  summary: "Checks database, broker and routing, and says of what is wrong how to mend it.",
  details: [
    "Looks only: nothing is changed, nothing is sent. Exit 1 when a problem needs action; warnings alone exit 0. What cannot be looked at is marked --. A database or broker that is away is a problem, and the other checks go on.",
    "Destinations are those of pending and recent messages, and those given as arguments. Where they lead is asked of RabbitMQ's management API, with a login that has the tag management.",
    BROKER_DETAILS,
  ].join("\n"),
  settings: DOCTOR_SETTINGS,
  options: {
    destination: {
      kind: destinationList,
      many: true,
      help: "A destination that must lead somewhere, though no message for it may be there yet. May be repeated.",
    },
    as: {
      kind: choice("writer|relay|consumer", {
        writer: "writer",
        relay: "relay",
        consumer: "consumer",
      } as const),
      help: "What the database role is meant to be: it is a problem if it may not. Without it a role may be any one of them.",
    },
    longTransaction: {
      kind: duration("0"),
      default: "5 minutes",
      help: "From which age on an open or prepared transaction is told.",
    },
    json: { help: "One JSON line for each finding; nothing where all is well." },
  },
  arguments: ["destination"],
  run: (config, options) =>
    Effect.gen(function* () {
      const findings = yield* examine(config, options)
      const text = options.json ? jsonFindings(findings) : readableFindings(findings)
      if (text !== "") yield* print(text)
      const words = needsAction(findings)
      if (words !== undefined) return yield* new CliError({ message: words })
    }),
})
