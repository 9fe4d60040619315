/** What tests set up and ask through RabbitMQ's management API, in one virtual host. */

export type RabbitApi = ReturnType<typeof rabbitApi>

export const rabbitApi = (managementUrl: string, vhost = "/") => {
  const encoded = encodeURIComponent
  const call = async (method: string, path: string, body?: unknown): Promise<unknown> => {
    const response = await fetch(`${managementUrl}/api${path}`, {
      method,
      headers: {
        authorization: `Basic ${Buffer.from("guest:guest").toString("base64")}`,
        "content-type": "application/json",
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    })
    const text = await response.text()
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`)
    return text === "" ? undefined : JSON.parse(text)
  }
  const of = (kind: string, name: string) => `/${kind}/${encoded(vhost)}/${encoded(name)}`
  return {
    call,
    createVhost: async () => {
      await call("PUT", `/vhosts/${encoded(vhost)}`)
      await call("PUT", `/permissions/${encoded(vhost)}/guest`, { configure: ".*", write: ".*", read: ".*" })
    },
    removeVhost: () => call("DELETE", `/vhosts/${encoded(vhost)}`),
    exchange: async (name: string, type: string, given: Record<string, unknown> = {}) => {
      await call("PUT", of("exchanges", name), { type, durable: true, arguments: given })
    },
    queue: async (name: string, given: Record<string, unknown> = {}, durable = true) => {
      await call("PUT", of("queues", name), { durable, arguments: given })
    },
    bind: async (exchange: string, queue: string, key: string, given: Record<string, unknown> = {}) => {
      await call("POST", `/bindings/${encoded(vhost)}/e/${encoded(exchange)}/q/${encoded(queue)}`, {
        routing_key: key,
        arguments: given,
      })
    },
    unbind: (exchange: string, queue: string, key: string) =>
      call(
        "DELETE",
        `/bindings/${encoded(vhost)}/e/${encoded(exchange)}/q/${encoded(queue)}/${encoded(key)}`,
      ),
    bindExchange: async (from: string, to: string, key: string) => {
      await call("POST", `/bindings/${encoded(vhost)}/e/${encoded(from)}/e/${encoded(to)}`, {
        routing_key: key,
      })
    },
    policy: async (name: string, pattern: string, applyTo: string, definition: object, kind = "policies") => {
      await call("PUT", of(kind, name), { pattern, "apply-to": applyTo, definition })
    },
    remove: (kind: "exchanges" | "queues" | "policies" | "operator-policies", name: string) =>
      call("DELETE", of(kind, name)),
    /** A user whose password is its name, who may see the virtual host and do nothing in it. */
    user: async (name: string, tags: string) => {
      await call("PUT", `/users/${encoded(name)}`, { password: name, tags })
      await call("PUT", `/permissions/${encoded(vhost)}/${encoded(name)}`, {
        configure: "^$",
        write: "^$",
        read: "^$",
      })
    },
    removeUser: (name: string) => call("DELETE", `/users/${encoded(name)}`),
    /** Publishes, and tells whether it was routed to any queue. */
    publish: async (exchange: string, key: string): Promise<boolean> => {
      const answer = await call("POST", `${of("exchanges", exchange)}/publish`, {
        properties: {},
        routing_key: key,
        payload: "x",
        payload_encoding: "string",
      })
      return (answer as { routed: boolean }).routed
    },
    /** Messages ready in a queue, counted by taking and giving them back. */
    depth: async (queue: string): Promise<number> => {
      const got = await call("POST", `${of("queues", queue)}/get`, {
        count: 10_000,
        ackmode: "ack_requeue_true",
        encoding: "auto",
      })
      return (got as unknown[]).length
    },
  }
}
