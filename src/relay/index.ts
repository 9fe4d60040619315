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
