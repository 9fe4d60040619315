/** An independent STOMP client that notes when each message came. */
import { rawStomp } from "../../test/support/stomp-client.ts"
import { now } from "./clock.ts"
import { serve } from "./program.ts"

export interface SubscriberConfig {
  readonly broker: string
  readonly destinations: ReadonlyArray<string>
}

/** The messages of a destination from `first` on, `count` of them, waited for at most `seconds`. */
export interface Awaited {
  readonly destination: string
  readonly first: number
  readonly count: number
  readonly seconds: number
}

serve(async ({ broker, destinations }: SubscriberConfig) => {
  const client = await rawStomp(broker)
  const arrivals = new Map<string, Map<number, number>>()
  for (const destination of destinations) {
    const arrived = new Map<number, number>()
    arrivals.set(destination, arrived)
    await client.subscribe(
      destination,
      ({ body }) => {
        const at = now()
        const { n } = JSON.parse(body.toString()) as { readonly n: number }
        if (!arrived.has(n)) arrived.set(n, at)
      },
      { ack: "auto" },
    )
  }
  const answer = async ({ destination, first, count, seconds }: Awaited): Promise<ReadonlyArray<number>> => {
    const arrived = arrivals.get(destination)!
    const until = now() + seconds * 1000
    const expected = Array.from({ length: count }, (_, index) => first + index)
    let missing = expected
    while (missing.length > 0) {
      missing = missing.filter((n) => !arrived.has(n))
      if (now() > until)
        throw new Error(`${missing.length} of ${count} messages did not come to ${destination}`)
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
    return expected.map((n) => arrived.get(n)!)
  }
  return { answer }
})
