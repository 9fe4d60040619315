/** Where dead messages lie: in the outbox, given up by a relay, or with `--inbox` in the inbox, given up by a consumer. */
import type { Sql } from "postgres"
import {
  countInboxDead,
  discardInboxDead,
  type InboxDeadFilter,
  type InboxDeadMessage,
  type InboxDeadRow,
  readInboxDead,
  readInboxDeadMessages,
  requeueInboxDead,
} from "../../inbox/operate.ts"
import {
  countDead,
  type DeadBatch,
  type DeadMessage,
  type DeadPlace,
  type DeadRow,
  discardDead,
  readDead,
  readDeadMessage,
  requeueDead,
} from "../../store/operate.ts"
import { clipped, columns } from "../table.ts"

/** What the `dead` commands ask of either. */
export interface DeadSource {
  readonly count: (sql: Sql, schema: string, filter: InboxDeadFilter) => Promise<number>
  readonly read: (sql: Sql, schema: string, filter: InboxDeadFilter, limit: number) => Promise<DeadList>
  /** Those with one id, whole. */
  readonly show: (
    sql: Sql,
    schema: string,
    id: string,
    filter: InboxDeadFilter,
  ) => Promise<ReadonlyArray<Readonly<Record<string, unknown>>>>
  readonly requeue: SweepStatement
  readonly discard: SweepStatement
}

/** Dead messages without their bodies, for people and for programs. */
export interface DeadList {
  readonly rows: ReadonlyArray<Readonly<Record<string, unknown>>>
  readonly table: string
}

/** One batch of work on the dead: gives the places of the messages it was done to. */
export type SweepStatement = (
  sql: Sql,
  schema: string,
  filter: InboxDeadFilter,
  batch: DeadBatch,
) => Promise<ReadonlyArray<DeadPlace>>

export const sourceOf = (inbox: boolean): DeadSource => (inbox ? inboxSource : outboxSource)

const outboxSource: DeadSource = {
  count: countDead,
  read: async (sql, schema, filter, limit) => {
    const rows = await readDead(sql, schema, filter, limit)
    return { rows: rows.map(outboxJson), table: outboxTable(rows) }
  },
  show: async (sql, schema, id) => {
    const message = await readDeadMessage(sql, schema, id)
    return message === undefined ? [] : [wholeOutboxJson(message)]
  },
  requeue: requeueDead,
  discard: discardDead,
}

const inboxSource: DeadSource = {
  count: countInboxDead,
  read: async (sql, schema, filter, limit) => {
    const rows = await readInboxDead(sql, schema, filter, limit)
    return { rows: rows.map(inboxJson), table: inboxTable(rows) }
  },
  show: async (sql, schema, id, filter) =>
    (await readInboxDeadMessages(sql, schema, { ...filter, ids: [id] })).map(wholeInboxJson),
  requeue: requeueInboxDead,
  discard: discardInboxDead,
}

const outboxTable = (rows: ReadonlyArray<DeadRow>): string =>
  columns([
    ["DIED", "ID", "EVENT", "DESTINATION", "KEY", "ATTEMPTS", "LAST ERROR"],
    ...rows.map((row) => [
      isoOf(row.deadAt).slice(0, 19),
      row.id,
      row.event,
      row.destination,
      row.key ?? "-",
      String(row.attempts),
      clipped(row.lastError ?? "-", 100),
    ]),
  ])

const inboxTable = (rows: ReadonlyArray<InboxDeadRow>): string =>
  columns([
    ["DIED", "CONSUMER", "ID", "EVENT", "DESTINATION", "KEY", "ATTEMPTS", "LAST ERROR"],
    ...rows.map((row) => [
      isoOf(row.deadAt).slice(0, 19),
      row.consumer,
      row.id,
      row.event ?? "-",
      row.destination,
      row.key ?? "-",
      String(row.attempts),
      clipped(row.lastError ?? "-", 100),
    ]),
  ])

const outboxJson = (row: DeadRow) => ({
  id: row.id,
  position: Number(row.position),
  event: row.event,
  destination: row.destination,
  key: row.key,
  attempts: row.attempts,
  lastError: row.lastError,
  createdAt: row.createdAt.toISOString(),
  deadAt: isoOf(row.deadAt),
})

const inboxJson = (row: InboxDeadRow) => ({
  consumer: row.consumer,
  queue: row.queue,
  id: row.id,
  position: Number(row.position),
  event: row.event,
  destination: row.destination,
  key: row.key,
  attempts: row.attempts,
  started: row.started,
  lastError: row.lastError,
  receivedAt: row.receivedAt.toISOString(),
  deadAt: isoOf(row.deadAt),
})

const wholeOutboxJson = (message: DeadMessage) => ({
  ...outboxJson(message),
  eventId: message.eventId,
  operation: message.operation,
  version: message.version,
  headers: message.headers,
  contentType: message.contentType,
  expiresAt: message.expiresAt?.toISOString() ?? null,
  ...(message.bodyBytes === null ? { body: message.body } : inBase64(message.bodyBytes)),
})

const wholeInboxJson = (message: InboxDeadMessage) => ({
  ...inboxJson(message),
  headers: message.headers ?? {},
  ...bodyOf(message.body ?? new Uint8Array()),
})

const bodyOf = (bytes: Uint8Array) => {
  try {
    return { body: new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes) }
  } catch {
    return inBase64(bytes)
  }
}

const inBase64 = (bytes: Uint8Array) => ({ bodyBase64: Buffer.from(bytes).toString("base64") })

const isoOf = (timestamp: string): string => new Date(timestamp).toISOString()
