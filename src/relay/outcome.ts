/**
 * What becomes of a message, given what was seen of it: the one place that decides.
 *
 * | seen | means | attempt | then |
 * | --- | --- | --- | --- |
 * | confirmed | the broker has it | – | published |
 * | its time to live is over | nobody wants it any more | – | dead |
 * | refused: this message | it can never pass | – | dead at once, with the broker's words |
 * | refused: its destination; or no receipt for it while others get theirs | the destination is in trouble | – | destination held, one probe a back-off step |
 * | refused: this time | the broker did not want it now | counted | back-off; dead at the maximum |
 * | lost with its connection; or no receipts at all | unknown | – | sent again |
 * | alone in flight at three deaths of a connection that named nobody | it kills connections | – | dead |
 * | alone in flight when a connection was closed without a word, again | that, or an outage | – | set aside: tried on connections of its own; three of them closed while others are confirmed, and it is dead |
 */
import type { Settlement } from "../broker/broker.ts"

export type Seen =
  | Settlement
  | { readonly _tag: "Expired"; readonly words: string }
  | { readonly _tag: "Silent"; readonly words: string }
  | { readonly _tag: "Suspect"; readonly deaths: number; readonly words: string }

export type Outcome =
  | { readonly _tag: "Published" }
  | { readonly _tag: "Dead"; readonly words: string }
  | { readonly _tag: "HoldDestination"; readonly words: string }
  | { readonly _tag: "Retry"; readonly attempts: number; readonly words: string }
  | { readonly _tag: "SendAgain" }

/** Deaths of a connection after which the one message that was alone in flight each time is given up. */
export const SUSPECT_DEATHS = 3

const published: Outcome = { _tag: "Published" }
const sendAgain: Outcome = { _tag: "SendAgain" }

export const outcomeOf = (seen: Seen, attempts: number, maxAttempts: number): Outcome => {
  switch (seen._tag) {
    case "Confirmed":
      return published
    case "Lost":
      return sendAgain
    case "Expired":
      return { _tag: "Dead", words: seen.words }
    case "Silent":
      return { _tag: "HoldDestination", words: seen.words }
    case "Suspect":
      return seen.deaths < SUSPECT_DEATHS
        ? sendAgain
        : { _tag: "Dead", words: `alone in flight at ${seen.deaths} deaths of the connection: ${seen.words}` }
    case "Refused":
      switch (seen.scope) {
        case "message":
          return { _tag: "Dead", words: seen.words }
        case "destination":
          return { _tag: "HoldDestination", words: seen.words }
        case "attempt":
          return attempts + 1 < maxAttempts
            ? { _tag: "Retry", attempts: attempts + 1, words: seen.words }
            : { _tag: "Dead", words: `refused ${attempts + 1} times: ${seen.words}` }
      }
  }
}
