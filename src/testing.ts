/** `drizzle-outbox/testing`: tests of your events and handlers on a real database, without broker, relay and waiting. */
export type { DeliverOptions } from "./testing/foreign.ts"
export { type DrainOptions, type TestOutbox, type TestOutboxOptions, testOutbox } from "./testing/kit.ts"
export type { PublishedMessage } from "./testing/published.ts"
export type { DrainReport, Mishap } from "./testing/report.ts"
export type { InboxMessage } from "./testing/rows.ts"
