export * from "./inbox.ts"
export { layerMemory, MemoryInbox, type MemoryInboxRow } from "./memory.ts"
export { type InboxPostgresOptions, layerPostgres } from "./postgres.ts"
export { TransactionEnded } from "./transaction-ended.ts"
