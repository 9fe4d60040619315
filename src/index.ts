/** The public names of drizzle-outbox. */

// The typed write path.
export type { AnyTransaction } from "./outbox/append.ts"
export type { BodySchema } from "./outbox/body.ts"
export type { ColumnJson, RowJson } from "./outbox/column.ts"
export { type DefinedOutbox, defineOutbox, type Operations, type OutboxOptions } from "./outbox/define.ts"
export { OutboxError, type OutboxErrorReason } from "./outbox/error.ts"
export type {
  EventBody,
  EventOptions,
  EventPublication,
  NamedEvent,
  OutboxEvent,
  TableEvent,
} from "./outbox/event.ts"
export type { WriteOptions } from "./outbox/headers.ts"
export type { JsonForm } from "./outbox/json.ts"
export type { Nudge } from "./outbox/nudge.ts"
export type { Destination, Operation, Publication, WriteContext } from "./outbox/publication.ts"
export type { UpsertConfig } from "./outbox/rows.ts"
export { type AnyDatabase, query, Transaction, transaction } from "./outbox/transaction.ts"
export type { Emit, OutboxTypeError, Upsert, WithOutbox } from "./outbox/with-outbox.ts"
