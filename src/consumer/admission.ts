/** Deliveries as they enter: who they are, and whether they need care. */
import type { Incoming } from "../broker/broker.ts"
import type { Arrival } from "../inbox/inbox.ts"
import { wordsOf } from "./decode.ts"
import { anonymous, identify } from "./identity.ts"
import type { ConsumerSettings } from "./options.ts"

/** A delivery that is known by its id, or that can only die. */
export interface Admitted {
  readonly incoming: Incoming
  readonly arrival: Arrival
  /** Why it can be nothing but dead. */
  readonly fault: string | undefined
  /** It may have taken a process down. */
  readonly suspect: boolean
  /** False once nothing that is done with it reaches the broker. */
  readonly live: () => boolean
}

const NAMELESS =
  "it carries no id: none of outbox-message-id, cap-msg-id, dop-msg-id, cloudEvents_id and amqp-message-id is among its headers, and no `identity` gives one"

export const admit = (
  incoming: Incoming,
  settings: ConsumerSettings,
  suspect: boolean,
  live: () => boolean,
): Admitted => {
  const rest = { incoming, suspect, live }
  try {
    const { arrival, nameless } = identify(incoming, settings)
    return { ...rest, arrival, fault: nameless ? NAMELESS : undefined }
  } catch (error) {
    return { ...rest, arrival: anonymous(incoming), fault: `its identity cannot be read: ${wordsOf(error)}` }
  }
}
