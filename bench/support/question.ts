/** What a bench is: a question, its cases, and the headline its answer gives. */

/** Milliseconds from what should have happened to what did. */
export interface Latency {
  readonly p50: number
  readonly p99: number
  readonly max: number
}

/** What measuring a case gives. */
export interface Measured {
  /** Median, per second. */
  readonly rate?: number
  /** Median, milliseconds. */
  readonly ms?: number
  /** Where the distribution is the answer. */
  readonly latency?: Latency
  /** The baseline's median, in the same unit; of a latency its p50. */
  readonly baseline?: number
  /** Median of the ratios of neighbouring repeats, ours to the baseline's. */
  readonly ratio?: number
  /** Lowest and highest ratio. */
  readonly spread?: readonly [number, number]
  /** 95 % interval of the median ratio. */
  readonly interval?: readonly [number, number]
  readonly repeats?: number
  /** What else was seen: memory, processor time, statements a message … with their units in the names. */
  readonly figures?: Readonly<Record<string, unknown>>
  /** What was watched over time: points of seconds and value, under a name that says the unit. */
  readonly series?: Readonly<Record<string, ReadonlyArray<readonly [number, number]>>>
  /** Why there is no figure. */
  readonly skipped?: string
  /** Versions, sizes and windows that the figures hold for. */
  readonly settings: Readonly<Record<string, unknown>>
}

export interface Case extends Omit<Measured, "latency">, Partial<Latency> {
  /** The question's. */
  readonly name: string
  readonly case: string
}

export interface Lab {
  /** One small repeat of each case: keeps the file alive, measures nothing. */
  readonly once: boolean
  /** A line of progress. */
  readonly say: (line: string) => void
  /** Whether `--case` asks for it. */
  readonly wants: (name: string) => boolean
  /** Measures a case, if it is wanted, and records it at once. The first case measured is the headline's where the question has no other. */
  readonly measure: (name: string, run: () => Promise<Measured>) => Promise<void>
}

export interface Question {
  /** What it finds out, in one line. */
  readonly asks: string
  /** How long a full run takes at the most. */
  readonly minutes: number
  readonly run: (lab: Lab) => Promise<void>
  /** What the last JSON line says; of the first case where it is missing. */
  readonly headline?: (cases: ReadonlyArray<Case>) => Readonly<Record<string, unknown>>
}

/** The first case's figures. */
export const firstCase = ([first]: ReadonlyArray<Case>): Readonly<Record<string, unknown>> => ({
  case: first?.case,
  rate: first?.rate,
  ms: first?.ms,
  baseline: first?.baseline,
  ratio: first?.ratio,
  spread: first?.spread,
})

/** The case with the lowest ratio. */
export const worstCase = (cases: ReadonlyArray<Case>): Readonly<Record<string, unknown>> =>
  firstCase(
    cases.filter(({ ratio }) => ratio !== undefined).toSorted((a, b) => (a.ratio ?? 0) - (b.ratio ?? 0)),
  )
