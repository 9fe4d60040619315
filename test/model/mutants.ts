/**
 * Deliberately broken variants of the library, as plain data: each breaks one promise, and whatever claims to prove the
 * promises must catch it.
 */

export interface Mutant {
  readonly name: string
  /** What it breaks, in a sentence. */
  readonly breaks: string
  /** The promises that are seen broken. */
  readonly violates: ReadonlyArray<string>
  /** Which model catches it. */
  readonly model: "relay" | "consumer" | "late-write"
  readonly edits: ReadonlyArray<{
    /** Below src. */
    readonly file: string
    /** Occurs exactly once. */
    readonly find: string
    readonly replace: string
  }>
}

export const mutants: ReadonlyArray<Mutant> = [
  {
    name: "settle-on-send",
    breaks: "A message counts as published once it was handed to the connection.",
    violates: ["published means confirmed"],
    model: "relay",
    edits: [
      {
        file: "relay/state.ts",
        find: "    (message, settlement) => onSettlement(state, message, settlement),\n  )\n  return true",
        replace:
          "    (message, settlement) => onSettlement(state, message, settlement),\n  )\n" +
          '  for (const message of messages) apply(state, message, { _tag: "Confirmed" })\n  return true',
      },
    ],
  },
  {
    name: "no-token-on-dead",
    breaks: "A relay that has lost its lanes still marks messages as dead.",
    violates: ["fenced"],
    model: "relay",
    edits: [
      {
        file: "store/memory.ts",
        find: "!pending(row) || !fenced(verdict)",
        replace: '!pending(row) || (verdict.fate !== "dead" && !fenced(verdict))',
      },
      {
        file: "store/statements.ts",
        find: "FROM verdict v JOIN fence f ON f.lane = v.lane AND f.token = v.token\n",
        replace: "FROM verdict v JOIN fence f ON f.lane = v.lane AND (f.token = v.token OR v.dead)\n",
      },
    ],
  },
  {
    name: "no-local-deadline",
    breaks: "A relay sends on after the end of its lease, until the database tells it.",
    violates: ["order"],
    model: "relay",
    edits: [
      {
        file: "relay/state.ts",
        find: "  if (state.now() >= state.deadline) {\n    loseLease(state)\n    return false\n  }\n",
        replace: "",
      },
      {
        file: "relay/lease.ts",
        find: "    if (state.lanes.size > 0 && start >= state.deadline) loseLease(state)\n",
        replace: "",
      },
      {
        file: "relay/watch.ts",
        find: "    if (state.lanes.size > 0 && state.now() >= state.deadline) state.connection?.destroy()\n",
        replace: "",
      },
      {
        file: "relay/watch.ts",
        find: "if (state.now() >= state.deadline || token === undefined",
        replace: "if (token === undefined",
      },
    ],
  },
  {
    name: "gaps-in-a-second-statement",
    breaks: "Gaps are read in one snapshot, what lies above the cursor in a later one.",
    violates: ["order"],
    model: "relay",
    edits: [
      {
        file: "relay/reader.ts",
        find: `    const result = yield* state.store.read({
      ...pass,
      lanes,
      limit,
      bytes: state.window.roomBytes(),
    })
`,
        replace: `    const bytes = state.window.roomBytes()
    const end = Number.MAX_SAFE_INTEGER
    const gaps = yield* state.store.read({ ...pass, from: end, cursor: end, lanes, limit, bytes })
    const above = yield* state.store.read({ ...pass, gaps: [], lanes, limit, bytes })
    const last = above.full ? (above.seen.at(-1)?.position ?? 0) : end
    const appeared = gaps.seen.filter(({ position }) => position <= last)
    const result = {
      seen: [...appeared, ...above.seen].sort((a, b) => a.position - b.position),
      full: gaps.full || above.full,
    }
`,
      },
    ],
  },
  {
    name: "gaps-forgotten-by-xmin",
    breaks:
      "A gap is forgotten when the transactions with an id have ended, not those with a lock on the table.",
    violates: ["order"],
    model: "relay",
    edits: [
      {
        file: "store/memory.ts",
        find: "new Set(open.keys())",
        replace: "new Set([...open].flatMap(([name, written]) => (written.length > 0 ? [name] : [])))",
      },
      {
        file: "store/statements.ts",
        find: `        WHERE locktype = 'relation' AND relation = \${\`\${quoted}.messages\`}::text::regclass AND mode = 'RowExclusiveLock' AND granted
          AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`,
        replace: "        WHERE locktype = 'transactionid' AND mode = 'ExclusiveLock' AND granted",
      },
    ],
  },
  {
    name: "back-off-does-not-hold-its-key",
    breaks: "A refused message lets the later ones of its key pass while it waits.",
    violates: ["order"],
    model: "relay",
    edits: [
      {
        file: "relay/window.ts",
        find: `      keys.hold(state, position)
      keys.dropQueue(state)
    }
    land(position)
`,
        replace: `      if (dead) keys.hold(state, position)
      keys.dropQueue(state)
    }
    land(position)
    if (!dead) advance(keys.of(message))
`,
      },
    ],
  },
  {
    name: "ack-before-commit",
    breaks: "A delivery is acknowledged before its transaction has committed.",
    violates: ["nothing lost", "order"],
    model: "consumer",
    edits: [
      {
        file: "consumer/engine.ts",
        find: "      if (passage.live()) yield* admitted.suspect ? guarded(passage, probe) : work(passage, probe)",
        replace:
          "      if (passage.live()) passage.settle()\n      if (passage.live()) yield* admitted.suspect ? guarded(passage, probe) : work(passage, probe)",
      },
    ],
  },
  {
    name: "no-revocation-of-tx",
    breaks: "The handle of a transaction that has ended still takes statements.",
    violates: ["late writes"],
    model: "late-write",
    edits: [
      {
        file: "inbox/revocable.ts",
        find: "          if (ended) throw new TransactionEnded()\n          // Between",
        replace: "          // Between",
      },
    ],
  },
  {
    name: "resume-in-the-middle-of-a-key",
    breaks: "After a reconnect the relay goes on from the last message in flight, not from the first.",
    violates: ["order"],
    model: "relay",
    edits: [
      {
        file: "relay/window.ts",
        find: "        lowest = Math.min(lowest, message.position)\n        land(message.position)",
        replace:
          "        lowest = lowest === Number.POSITIVE_INFINITY ? message.position : Math.max(lowest, message.position)\n        land(message.position)",
      },
    ],
  },
  {
    name: "sends-on-when-asked-to-stop",
    breaks: "What a reading under way brings is sent, though the relay is giving its lanes back.",
    violates: ["stops", "order"],
    model: "relay",
    edits: [
      {
        file: "relay/window.ts",
        find: "if (draining || bytes >= options.bytes) return 0",
        replace: "if (bytes >= options.bytes) return 0",
      },
    ],
  },
]
