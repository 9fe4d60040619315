/** The tables as the kit needs them: a relay of a few statements, the shift of time, and what waits or is dead. */
import { and, asc, eq, inArray, isNull, or, type SQL, sql } from "drizzle-orm"
import type { InboxScope } from "../inbox/inbox.ts"
import type { AnyDatabase } from "../outbox/transaction.ts"
import { outboxSchema } from "../schema.ts"
import type { StoredMessage } from "../store/store.ts"

/** A message that waits in the inbox, or is dead there. */
export interface InboxMessage {
  readonly consumer: string
  readonly queue: string
  readonly id: string
  readonly destination: string
  readonly key: string | null
  readonly headers: Readonly<Record<string, string>>
  readonly body: Uint8Array
  /** Failed tries. */
  readonly attempts: number
  /** What the last failed try said; null for one that has not been tried, or was snoozed. */
  readonly error: string | null
}

export interface Rows {
  /** What is due, in order of position, so many at the most. */
  readonly due: (limit: number) => Promise<ReadonlyArray<StoredMessage>>
  readonly published: (positions: ReadonlyArray<number>) => Promise<void>
  readonly dead: (position: number, error: string) => Promise<void>
  /** Makes everything that waits for its time come due so many milliseconds earlier. */
  readonly advance: (millis: number) => Promise<void>
  /** Messages of these consumers, in order of arrival. */
  readonly inbox: (
    state: "parked" | "dead",
    scopes: ReadonlyArray<InboxScope>,
  ) => Promise<ReadonlyArray<InboxMessage>>
  readonly countParked: (scopes: ReadonlyArray<InboxScope>) => Promise<number>
  /** Deletes all messages, of the outbox and the inbox. */
  readonly clear: () => Promise<void>
}

export const makeRows = (db: AnyDatabase, schema: string): Rows => {
  const { messages, inbox } = outboxSchema(schema)
  const pending = and(isNull(messages.publishedAt), isNull(messages.deadAt))
  const inScopes = (state: "parked" | "dead", scopes: ReadonlyArray<InboxScope>): SQL | undefined =>
    and(
      eq(inbox.state, state),
      scopes.length === 0
        ? sql`false`
        : or(...scopes.map((scope) => and(eq(inbox.consumer, scope.consumer), eq(inbox.queue, scope.queue)))),
    )
  return {
    due: async (limit) => {
      const rows = await db
        .select({
          message: messages,
          expired: sql<boolean>`coalesce(${messages.expiresAt} <= clock_timestamp(), false)`,
        })
        .from(messages)
        .where(
          and(pending, or(isNull(messages.availableAt), sql`${messages.availableAt} <= clock_timestamp()`)),
        )
        .orderBy(asc(messages.position))
        .limit(limit)
      return rows.map(
        ({ message, expired }): StoredMessage => ({
          ...message,
          position: Number(message.position),
          lane: message.lane as number,
          body: message.body ?? message.bodyBytes ?? "",
          createdAt: message.createdAt.toISOString(),
          expired,
        }),
      )
    },

    published: async (positions) => {
      await db
        .update(messages)
        .set({ publishedAt: sql`clock_timestamp()`, availableAt: null })
        .where(inArray(messages.position, positions.map(BigInt)))
    },

    dead: async (position, error) => {
      await db
        .update(messages)
        .set({ deadAt: sql`clock_timestamp()`, availableAt: null, lastError: error })
        .where(eq(messages.position, BigInt(position)))
    },

    advance: async (millis) => {
      const by = sql`${millis}::float8 * interval '1 millisecond'`
      await db.transaction(async (tx) => {
        await tx
          .update(messages)
          .set({
            availableAt: sql`${messages.availableAt} - ${by}`,
            expiresAt: sql`${messages.expiresAt} - ${by}`,
          })
          .where(
            and(pending, sql`(${messages.availableAt} IS NOT NULL OR ${messages.expiresAt} IS NOT NULL)`),
          )
        await tx
          .update(inbox)
          .set({ availableAt: sql`${inbox.availableAt} - ${by}` })
          .where(and(eq(inbox.state, "parked"), sql`${inbox.availableAt} IS NOT NULL`))
      })
    },

    inbox: async (state, scopes) => {
      const rows = await db.select().from(inbox).where(inScopes(state, scopes)).orderBy(asc(inbox.position))
      return rows.map((row) => ({
        consumer: row.consumer,
        queue: row.queue,
        id: row.messageId,
        destination: row.destination,
        key: row.key,
        headers: row.headers ?? {},
        body: row.body ?? new Uint8Array(),
        attempts: row.attempts,
        error: row.lastError,
      }))
    },

    countParked: (scopes) => db.$count(inbox, inScopes("parked", scopes)),

    clear: async () => {
      await db.transaction(async (tx) => {
        await tx.delete(messages)
        await tx.delete(inbox)
      })
    },
  }
}
