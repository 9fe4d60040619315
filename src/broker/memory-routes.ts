/** Routes in this process, for tests. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { BrokerError } from "./broker.ts"
import { type Route, Routes } from "./routes.ts"

/** What the memory routes say, to be changed at any time: it is seen at the next look. */
export class MemoryRoutes extends Context.Service<
  MemoryRoutes,
  {
    /** By destination; the others lead somewhere. */
    readonly routes: Map<string, Route>
    /** While set, a look fails in these words. */
    away: string | undefined
    /** How often somebody looked. */
    looks: number
  }
>()("drizzle-outbox/MemoryRoutes") {}

const somewhere: Route = { _tag: "Somewhere" }

/** Routes that a test decides. */
export const layerMemoryRoutes: Layer.Layer<MemoryRoutes> = Layer.effectContext(
  Effect.sync(() => {
    const memory: MemoryRoutes["Service"] = { routes: new Map(), away: undefined, looks: 0 }
    const look = Effect.suspend(() => {
      memory.looks++
      if (memory.away !== undefined)
        return Effect.fail(new BrokerError({ reason: "unreachable", message: memory.away }))
      const seen = new Map(memory.routes)
      return Effect.succeed((destination: string) => seen.get(destination) ?? somewhere)
    })
    return Context.make(MemoryRoutes, memory).pipe(Context.add(Routes, { look }))
  }),
)
