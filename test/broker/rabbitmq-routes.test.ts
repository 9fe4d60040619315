/** What we say of RabbitMQ's routing is what RabbitMQ does. */
import { randomUUID } from "node:crypto"
import { Context, Effect, Layer, Redacted } from "effect"
import { afterAll, beforeAll, describe, expect, inject, it } from "vitest"
import {
  layerRabbitmqRoutes,
  type RabbitmqRoutesOptions,
} from "../../src/broker/rabbitmq-management/routes.ts"
import { targetOf } from "../../src/broker/rabbitmq-management/target.ts"
import { matchesTopic } from "../../src/broker/rabbitmq-management/topic-pattern.ts"
import { Routes } from "../../src/broker/routes.ts"
import { rabbitApi } from "../support/rabbitmq-api.ts"
import { random } from "../support/random.ts"

const vhost = `routes-${randomUUID().slice(0, 8)}`
const api = () => rabbitApi(inject("rabbitmq").managementUrl, vhost)

beforeAll(async () => {
  await api().createVhost()
})
afterAll(() => api().removeVhost())

const look = (options: Partial<RabbitmqRoutesOptions> = {}) => {
  const url = inject("rabbitmq").managementUrl
  const layer = layerRabbitmqRoutes({ url, virtualHost: vhost, ...options })
  return Effect.runPromise(
    Effect.scoped(Effect.flatMap(Layer.build(layer), (context) => Context.get(context, Routes).look)),
  )
}

describe("destinations", () => {
  const cases: ReadonlyArray<readonly [string, unknown]> = [
    ["/topic/a.b", { exchange: "amq.topic", key: "a.b", declares: false }],
    ["/topic/a%2Fb", { exchange: "amq.topic", key: "a/b", declares: false }],
    ["/topic/a/b", undefined],
    ["/queue/q", { exchange: "", key: "q", declares: true }],
    ["/amq/queue/q", { exchange: "", key: "q", declares: false }],
    ["/exchange/x", { exchange: "x", key: "", declares: false }],
    ["/exchange/x/k.1", { exchange: "x", key: "k.1", declares: false }],
    ["/exchange/x/k/1", undefined],
    ["/nope/x", undefined],
    ["/temp-queue/x", undefined],
  ]
  it.each(cases)("%s", (destination, target) => expect(targetOf(destination)).toEqual(target))
})

it("topic patterns take what RabbitMQ's take", async () => {
  const dice = random(7)
  const word = () => ["a", "b", "", "*", "#"][dice.below(5)] as string
  const words = (most: number) => Array.from({ length: dice.below(most + 1) }, word)
  const patterns = new Set(["", "#", "*", "a.#", "#.b", "a.*.b", "*.#", "#.a.#"])
  while (patterns.size < 40) patterns.add(words(4).join("."))
  const keys = new Set(["", "a", "a.b", "a..b", ".", "b.a.b"])
  while (keys.size < 40)
    keys.add(
      words(4)
        .map((part) => (/[*#]/.test(part) ? "a" : part))
        .join("."),
    )
  const disagreements: string[] = []
  for (const pattern of patterns) {
    const name = randomUUID()
    await api().exchange(name, "topic")
    await api().queue(name)
    await api().bind(name, name, pattern)
    for (const key of keys) {
      const said = matchesTopic(pattern, key)
      if (said !== (await api().publish(name, key))) disagreements.push(`${pattern} ${key}: ${said}`)
    }
    await api().remove("exchanges", name)
    await api().remove("queues", name)
  }
  expect(disagreements).toEqual([])
})

/** Each is built for real, said by us, and then asked of the broker by a publish. */
describe("a destination", () => {
  const cases: ReadonlyArray<{
    readonly title: string
    readonly build: (name: string) => Promise<void>
    readonly destination?: (name: string) => string
    readonly route: "Somewhere" | "Nowhere" | "Unknown"
    readonly words?: RegExp
  }> = [
    {
      title: "without a binding",
      build: async () => {},
      route: "Nowhere",
      words: /nothing is bound to exchange "amq.topic"/,
    },
    {
      title: "with a queue bound to it",
      build: async (name) => {
        await api().queue(name)
        await api().bind("amq.topic", name, `${name}.*`)
      },
      destination: (name) => `/topic/${name}.v2`,
      route: "Somewhere",
    },
    {
      title: "with a queue bound beside it",
      build: async (name) => {
        await api().queue(name)
        await api().bind("amq.topic", name, `${name}.*`)
      },
      destination: (name) => `/topic/${name}.v2.eu`,
      route: "Nowhere",
    },
    {
      title: "of an exchange that is not there",
      build: async () => {},
      destination: (name) => `/exchange/${name}/k`,
      route: "Nowhere",
      words: /there is no exchange/,
    },
    {
      title: "of a direct exchange with its key bound",
      build: async (name) => {
        await api().exchange(name, "direct")
        await api().queue(name)
        await api().bind(name, name, "k")
      },
      destination: (name) => `/exchange/${name}/k`,
      route: "Somewhere",
    },
    {
      title: "of a direct exchange with another key bound",
      build: async (name) => {
        await api().exchange(name, "direct")
        await api().queue(name)
        await api().bind(name, name, "k.#")
      },
      destination: (name) => `/exchange/${name}/k.1`,
      route: "Nowhere",
    },
    {
      title: "of a fanout exchange",
      build: async (name) => {
        await api().exchange(name, "fanout")
        await api().queue(name)
        await api().bind(name, name, "whatever")
      },
      destination: (name) => `/exchange/${name}`,
      route: "Somewhere",
    },
    {
      title: "of a headers exchange that wants none",
      build: async (name) => {
        await api().exchange(name, "headers")
        await api().queue(name)
        await api().bind(name, name, "", { "x-match": "all" })
      },
      destination: (name) => `/exchange/${name}`,
      route: "Somewhere",
    },
    {
      title: "of a headers exchange that wants some",
      build: async (name) => {
        await api().exchange(name, "headers")
        await api().queue(name)
        await api().bind(name, name, "", { "x-match": "any", tenant: "a" })
      },
      destination: (name) => `/exchange/${name}`,
      route: "Unknown",
      words: /routes by the headers/,
    },
    {
      title: "of a headers exchange without bindings",
      build: (name) => api().exchange(name, "headers"),
      destination: (name) => `/exchange/${name}`,
      route: "Nowhere",
    },
    {
      title: "by way of another exchange",
      build: async (name) => {
        await api().exchange(name, "fanout")
        await api().queue(name)
        await api().bindExchange("amq.topic", name, `${name}.#`)
        await api().bind(name, name, "")
      },
      route: "Somewhere",
    },
    {
      title: "by way of an exchange that ends there, whatever the alternate: a binding has matched",
      build: async (name) => {
        await api().queue(name)
        await api().exchange(`${name}.alt`, "fanout")
        await api().bind(`${name}.alt`, name, "")
        await api().exchange(name, "direct", { "alternate-exchange": `${name}.alt` })
        await api().exchange(`${name}.end`, "fanout")
        await api().bindExchange(name, `${name}.end`, "k")
      },
      destination: (name) => `/exchange/${name}/k`,
      route: "Nowhere",
    },
    {
      title: "by way of exchanges in a circle",
      build: async (name) => {
        await api().exchange(name, "fanout")
        await api().exchange(`${name}.2`, "fanout")
        await api().bindExchange(name, `${name}.2`, "")
        await api().bindExchange(`${name}.2`, name, "")
      },
      destination: (name) => `/exchange/${name}`,
      route: "Nowhere",
    },
    {
      title: "by way of an alternate exchange",
      build: async (name) => {
        await api().queue(name)
        await api().exchange(`${name}.alt`, "fanout")
        await api().bind(`${name}.alt`, name, "")
        await api().exchange(name, "direct", { "alternate-exchange": `${name}.alt` })
      },
      destination: (name) => `/exchange/${name}/k`,
      route: "Somewhere",
    },
    {
      title: "by way of a policy's alternate exchange",
      build: async (name) => {
        await api().queue(name)
        await api().exchange(`${name}.alt`, "fanout")
        await api().bind(`${name}.alt`, name, "")
        await api().exchange(name, "direct")
        await api().policy(name, `^${name}$`, "exchanges", { "alternate-exchange": `${name}.alt` })
      },
      destination: (name) => `/exchange/${name}/k`,
      route: "Somewhere",
    },
    {
      title: "with an alternate exchange that is not there",
      build: (name) => api().exchange(name, "direct", { "alternate-exchange": "gone" }),
      destination: (name) => `/exchange/${name}/k`,
      route: "Nowhere",
      words: /there is no exchange "gone"/,
    },
    {
      title: "that is a queue declared by others",
      build: (name) => api().queue(name),
      destination: (name) => `/amq/queue/${name}`,
      route: "Somewhere",
    },
    {
      title: "that is a queue nobody declared",
      build: async () => {},
      destination: (name) => `/amq/queue/${name}`,
      route: "Nowhere",
      words: /there is no queue/,
    },
  ]
  it.each(cases)("$title", async ({ build, destination, route, words }) => {
    const name = `r${randomUUID().slice(0, 8)}`
    await build(name)
    const place = destination?.(name) ?? `/topic/${name}.v2`
    const said = (await look())(place)
    expect(said._tag).toBe(route)
    if (words !== undefined) expect("words" in said && said.words).toMatch(words)
    const target = targetOf(place)
    const routed = await api()
      .publish(target?.exchange === "" ? "amq.default" : (target?.exchange ?? ""), target?.key ?? "")
      .catch(() => false)
    if (route !== "Unknown") expect(routed).toBe(route === "Somewhere")
  })

  it("that is a queue to be declared by SEND leads somewhere", async () => {
    expect((await look())("/queue/new")).toEqual({ _tag: "Somewhere" })
  })
})

describe("the management API", () => {
  it("that does not let in says who, and no password", async () => {
    const { port } = new URL(inject("rabbitmq").managementUrl)
    const failed = await look({ url: `http://app:hunter2@127.0.0.1:${port}` }).catch((error) => error)
    expect(failed.reason).toBe("refused")
    expect(failed.message).toMatch(/"app" may not use the management API .*the tag "management"/)
    expect(`${failed.message} ${JSON.stringify(failed)}`).not.toContain("hunter2")
  })

  it("takes the broker's login where its URL has none", async () => {
    const failed = await look({ login: "app", passcode: Redacted.make("x") }).catch((error) => error)
    expect(failed.message).toContain('"app" may not')
  })

  it("that is away, or no API, says so", async () => {
    const away = await look({ url: "http://127.0.0.1:1" }).catch((error) => error)
    expect(away.reason).toBe("unreachable")
    const port = new URL(inject("rabbitmq").wsUrl).port
    const other = await look({ url: `http://127.0.0.1:${port}` }).catch((error) => error)
    expect(other.reason).toBe("refused")
    const nowhere = await look({ virtualHost: "none" }).catch((error) => error)
    expect(nowhere.message).toContain("HTTP status 404")
  })

  it("needs a login with the tag management and nothing more, for policies, too", async () => {
    const user = `u${randomUUID().slice(0, 8)}`
    const name = `h${randomUUID().slice(0, 8)}`
    await api().user(user, "management")
    await api().queue(name)
    await api().bind("amq.fanout", name, "")
    await api().exchange(name, "direct")
    await api().policy(name, `^${name}$`, "exchanges", { "alternate-exchange": "amq.fanout" })
    const seen = await look({ login: user, passcode: Redacted.make(user) })
    expect(seen(`/exchange/${name}/k`)).toEqual({ _tag: "Somewhere" })
    expect(seen("/topic/nobody")).toMatchObject({ _tag: "Nowhere" })
    await api().removeUser(user)
  })
})
