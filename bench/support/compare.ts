/** Repeats that take turns (A B A B …), so that what the machine does besides falls on all of them. */
import type { Lab, Measured } from "./question.ts"
import { median, medianInterval, rounded } from "./statistics.ts"

export interface Repeats {
  /** What the progress lines call it. */
  readonly label: string
  /** Repeats of each; one with `--once`. Default 5. */
  readonly repeats?: number
  /** Rounds before the first that counts; none with `--once`. Default 1. */
  readonly warmups?: number
  /** What the contestants return: a rate per second (default) or milliseconds. */
  readonly unit?: "rate" | "ms"
}

/** Runs every contestant in turn, round after round, and gives the values of each in order. */
export const interleave = async <Name extends string>(
  lab: Lab,
  { label, repeats = 5, warmups = 1, unit = "rate" }: Repeats,
  contestants: Readonly<Record<Name, () => Promise<number>>>,
): Promise<Readonly<Record<Name, ReadonlyArray<number>>>> => {
  const names = Object.keys(contestants) as Name[]
  const values = Object.fromEntries(names.map((name) => [name, [] as number[]])) as Record<Name, number[]>
  const rounds = lab.once ? 1 : repeats
  for (let round = lab.once ? 1 : 1 - warmups; round <= rounds; round++) {
    const said: string[] = []
    for (const name of names) {
      const value = await contestants[name]()
      if (round > 0) values[name].push(value)
      said.push(`${name} ${rounded(value)}${unit === "rate" ? "/s" : " ms"}`)
    }
    lab.say(`${label}, ${round > 0 ? `${round}/${rounds}` : "warm-up"}: ${said.join(", ")}`)
  }
  return values
}

/** Medians of both, and the median of the ratios of neighbouring repeats with its spread and its interval. */
export const ratioOf = (
  ours: ReadonlyArray<number>,
  baseline: ReadonlyArray<number>,
  unit: "rate" | "ms" = "rate",
): Omit<Measured, "settings"> => {
  const ratios = ours.map((value, index) => value / baseline[index]!)
  const [low, high] = medianInterval(ratios)
  return {
    ...(unit === "rate" ? { rate: rounded(median(ours)) } : { ms: rounded(median(ours)) }),
    baseline: rounded(median(baseline)),
    ratio: rounded(median(ratios), 3),
    spread: [rounded(Math.min(...ratios), 3), rounded(Math.max(...ratios), 3)],
    interval: [rounded(low, 3), rounded(high, 3)],
    repeats: ours.length,
  }
}

/** Ours against one baseline. */
export const compare = async (
  lab: Lab,
  repeats: Repeats,
  ours: () => Promise<number>,
  baseline: () => Promise<number>,
): Promise<Omit<Measured, "settings">> => {
  const values = await interleave(lab, repeats, { ours, baseline })
  return ratioOf(values.ours, values.baseline, repeats.unit)
}
