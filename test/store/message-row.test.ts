import { describe, expect, it } from "vitest"
import { type MessageRow, messageReader } from "../../src/store/message-row.ts"

const row = (fields: Partial<MessageRow> = {}): MessageRow => ({
  position: "7",
  lane: 63,
  id: "i",
  event: "e",
  event_id: "v",
  operation: "emit",
  destination: "/topic/t",
  version: null,
  key: null,
  headers: "{}",
  content_type: "application/json",
  body: "{}",
  body_bytes: null,
  created_at: "2026-01-31 23:59:59.123456+00",
  attempts: null,
  expired: null,
  ...fields,
})

describe("messageReader", () => {
  it.each([
    ["2026-01-31 23:59:59.123999+00", "2026-01-31T23:59:59.123Z"],
    ["2026-01-31 23:59:59.1+00", "2026-01-31T23:59:59.100Z"],
    ["2026-01-31 23:59:59.000001+00", "2026-01-31T23:59:59.000Z"],
    ["2026-01-31 23:59:59+00", "2026-01-31T23:59:59.000Z"],
    ["2026-01-31 23:59:59.5+05:30", "2026-01-31T18:29:59.500Z"],
  ])("gives %s as %s", (created_at, iso) => {
    expect(messageReader()(row({ created_at })).createdAt).toBe(iso)
  })

  it("mixes up nothing of neighbours that differ", () => {
    const rows = [
      row({ event: "a", operation: "insert", destination: "/topic/a", version: "v1", content_type: "x/a" }),
      row({ event: "b", operation: "update", destination: "/topic/b", version: null, content_type: "x/b" }),
      row({ headers: '{"h":"1"}', attempts: 3, expired: true, body: null, body_bytes: Uint8Array.of(1) }),
      row(),
    ]
    const of = (fields: MessageRow) => messageReader()(fields)
    expect(rows.map(messageReader())).toEqual(rows.map(of))
    expect(of(rows[2] as MessageRow)).toMatchObject({ headers: { h: "1" }, attempts: 3, expired: true })
    expect(of(rows[1] as MessageRow)).toMatchObject({ event: "b", version: null, headers: {}, attempts: 0 })
  })
})
