/** True for what is a queue by itself: a name for one of its subscriptions adds nothing. */
export const isQueue = (destination: string): boolean =>
  destination.startsWith("/queue/") || destination.startsWith("/amq/queue/")
