/** What every bench shares: repeats that alternate with their baseline, medians with their spread, one form of result. */

export interface BenchOptions {
  readonly once: boolean
  readonly say: (line: string) => void
}

export interface Case {
  readonly name: string
  readonly case: string
  /** Medians, per second. */
  readonly rate: number
  readonly baseline: number
  /** Median of the ratios of neighbouring repeats. */
  readonly ratio: number
  /** Lowest and highest ratio. */
  readonly spread: readonly [number, number]
  readonly repeats: number
  readonly settings: Readonly<Record<string, unknown>>
}

export type Bench = (options: BenchOptions) => Promise<ReadonlyArray<Case>>

export const median = (values: ReadonlyArray<number>): number => {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = Math.floor(sorted.length / 2)
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2
}

/** Runs both in turn (A B A B …), and compares neighbours, so that what the machine does besides falls on both. */
export const compare = async (
  options: BenchOptions & {
    readonly name: string
    readonly case: string
    readonly repeats: number
    readonly settings: Readonly<Record<string, unknown>>
  },
  ours: () => Promise<number>,
  baseline: () => Promise<number>,
): Promise<Case> => {
  const rates: number[] = []
  const baselines: number[] = []
  for (let repeat = 1; repeat <= options.repeats; repeat++) {
    rates.push(await ours())
    baselines.push(await baseline())
    options.say(
      `${options.case} ${repeat}/${options.repeats}: ${Math.round(rates.at(-1)!)}/s, baseline ${Math.round(baselines.at(-1)!)}/s`,
    )
  }
  const ratios = rates.map((rate, index) => rate / baselines[index]!)
  return {
    name: options.name,
    case: options.case,
    rate: Math.round(median(rates)),
    baseline: Math.round(median(baselines)),
    ratio: Number(median(ratios).toFixed(3)),
    spread: [Number(Math.min(...ratios).toFixed(3)), Number(Math.max(...ratios).toFixed(3))],
    repeats: options.repeats,
    settings: options.settings,
  }
}

/** Prints the cases for people, or as JSON lines whose last is the headline: the first case's figures. */
export const report = (cases: ReadonlyArray<Case>, json: boolean): void => {
  for (const result of cases)
    console.log(
      json
        ? JSON.stringify(result)
        : `${result.name} ${result.case}: ${result.rate}/s against ${result.baseline}/s, ratio ${result.ratio} (${result.spread.join("–")}, ${result.repeats} repeats)\n  ${JSON.stringify(result.settings)}`,
    )
  const [first] = cases
  if (json && first !== undefined)
    console.log(
      JSON.stringify({
        summary: true,
        name: first.name,
        case: first.case,
        rate: first.rate,
        baseline: first.baseline,
        ratio: first.ratio,
        spread: first.spread,
      }),
    )
}
