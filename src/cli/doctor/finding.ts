/** What a check found. */

/**
 * - `ok`: as it should be.
 * - `unchecked`: could not be looked at, and why.
 * - `warning`: worth knowing; whether it needs anything is for the reader to say.
 * - `problem`: needs action.
 */
export type Level = "ok" | "unchecked" | "warning" | "problem"

export interface Finding {
  readonly level: Level
  /** A stable name for monitors: "topology.unrouted". */
  readonly check: string
  /** What it is about: a destination, a queue, an index, a host. */
  readonly where: string
  readonly what: string
  /** What to do; every problem has one. */
  readonly remedy?: string
}

const at =
  (level: Level) =>
  (check: string, where: string, what: string, remedy?: string): Finding => ({
    level,
    check,
    where,
    what,
    ...(remedy === undefined ? {} : { remedy }),
  })

export const ok = at("ok")
export const unchecked = at("unchecked")
export const warning = at("warning")
export const problem: (check: string, where: string, what: string, remedy: string) => Finding = at("problem")
