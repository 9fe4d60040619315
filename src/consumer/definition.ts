/** What a consumer is made of. */
import type { Decoder } from "./decode.ts"
import type { Delivery } from "./delivery.ts"
import type { Message, Work } from "./message.ts"
import type { ConsumerSettings } from "./options.ts"

/** The user's function, whatever its form. What it returns may be an Effect, a Promise or nothing. */
export type Handle =
  | { readonly _tag: "Messages"; readonly call: (messages: ReadonlyArray<Message>, work: Work) => unknown }
  | { readonly _tag: "Delivery"; readonly call: (delivery: Delivery) => unknown }

/** What a consumer is made of. */
export interface Definition {
  readonly settings: ConsumerSettings
  readonly decode: Decoder
  readonly handle: Handle
}
