export * from "./broker.ts"
export { type HeaderSource, wireHeaders } from "./headers.ts"
export { layerMemory, MemoryBroker, type MemoryBrokerOptions, type MemoryRefusal } from "./memory.ts"
export { publish } from "./publish.ts"
