export { StoreError } from "../store/error.ts"
export { checkSchema, migrate, migrations, printMigrations } from "../store/migrate.ts"
export { layerPostgres, type PostgresOptions } from "../store/postgres.ts"
export { OutboxStore } from "../store/store.ts"
export { defaultBackoff, pauseAfter } from "./backoff.ts"
export { type RelayOptions, type RelayReport, runRelay } from "./relay.ts"
export {
  type ListenOptions,
  type LocalNudge,
  layerListen,
  layerLocal,
  layerPolling,
  Nudge,
  Wakeup,
} from "./wakeup.ts"
