/** `drizzle-outbox/consumer`: consumers, and the inbox they keep. */
export { Inbox } from "../inbox/inbox.ts"
export { layerMemory } from "../inbox/memory.ts"
export { layerPostgres } from "../inbox/postgres.ts"
export { TransactionEnded } from "../inbox/transaction-ended.ts"
export { StoreError } from "../store/error.ts"
export {
  type BatchHandler,
  type Consumer,
  consume,
  consumeBatch,
  consumeDelivery,
  type DecodedBody,
  type DeliveryHandler,
  type Handler,
  type HandlerResult,
  type Source,
} from "./consume.ts"
export type { Delivery, Settled } from "./delivery.ts"
export { ConsumerError } from "./error.ts"
export type { Causation, Handling, Message, Work } from "./message.ts"
export type { BatchOptions, ConsumerOptions, Extractor } from "./options.ts"
export { Reject, Snooze } from "./outcome.ts"
export { type RunningConsumer, type StartOptions, startConsumer } from "./start.ts"
