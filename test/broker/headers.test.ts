import { describe, expect, it } from "vitest"
import { type HeaderSource, wireHeaders } from "../../src/broker/headers.ts"

const stored: HeaderSource = {
  position: 7,
  id: "0190",
  event: "orders",
  eventId: "0191",
  operation: "insert",
  destination: "/topic/orders.v2",
  version: "v2",
  key: "c:1",
  headers: {
    tenant: "a",
    "outbox-correlation-id": "co",
    "outbox-causation-id": "ca",
    traceparent: "00-1-2-01",
  },
  createdAt: "2026-01-02T03:04:05.678Z",
}

describe("wireHeaders", () => {
  it("says what brokers.md promises", () => {
    expect(wireHeaders(stored)).toEqual({
      "outbox-message-id": "0190",
      "outbox-event": "orders",
      "outbox-event-id": "0191",
      "outbox-operation": "insert",
      "outbox-key": "c:1",
      "outbox-position": "7",
      "outbox-version": "v2",
      "outbox-time": "2026-01-02T03:04:05.678Z",
      "outbox-correlation-id": "co",
      "outbox-causation-id": "ca",
      traceparent: "00-1-2-01",
      tenant: "a",
      "dop-msg-id": "0190",
      "dop-msg-destination": "/topic/orders.v2",
      "dop-msg-type": "orders",
      "dop-msg-sent-time": "2026-01-02T03:04:05.678Z",
      "dop-correlation-id": "co",
    })
  })

  it("leaves out what there is none of", () => {
    const headers = wireHeaders({ ...stored, key: null, version: null, headers: {} }, { django: false })
    expect(Object.keys(headers).sort()).toEqual(
      ["id", "event", "event-id", "operation", "position", "time"]
        .map((name) => (name === "id" ? "outbox-message-id" : `outbox-${name}`))
        .sort(),
    )
    expect(wireHeaders({ ...stored, headers: {} })).not.toHaveProperty("dop-correlation-id")
  })

  it("keeps the identity that a copy stores, but never its position, and keeps an empty key", () => {
    const headers = wireHeaders({
      ...stored,
      key: "",
      headers: { "outbox-message-id": "x", "outbox-event": "y", "outbox-position": "1" },
    })
    expect(headers).toMatchObject({
      "outbox-message-id": "x",
      "dop-msg-id": "x",
      "outbox-event": "y",
      "dop-msg-type": "y",
      "outbox-position": String(stored.position),
      "outbox-key": "",
    })
  })
})
