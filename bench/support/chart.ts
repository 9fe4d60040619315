/** An SVG of a question's cases: bars for each unit, lines for what was watched over time. */
import type { Case } from "./question.ts"

const WIDTH = 860
const LABEL = 300
const PLOT = WIDTH - LABEL - 110
const BAR = 13
const GAP = 11
const LINES = 190
const COLOURS = ["#2563eb", "#94a3b8", "#ea580c", "#16a34a", "#9333ea", "#be123c", "#0d9488", "#a16207"]

interface Bars {
  readonly title: string
  readonly series: ReadonlyArray<string>
  readonly rows: ReadonlyArray<{ readonly label: string; readonly values: ReadonlyArray<number | undefined> }>
  /** Where values differ by orders of magnitude. */
  readonly logarithmic: boolean
}

/** The chart of a question's cases; undefined where they have no figures. */
export const chart = (name: string, cases: ReadonlyArray<Case>): string | undefined => {
  const timed = cases.filter(({ p50 }) => p50 !== undefined)
  const rates = cases.filter(({ rate }) => rate !== undefined)
  const durations = cases.filter(({ ms }) => ms !== undefined)
  const panels = [
    bars({
      title: "messages a second (longer is better)",
      series: ["drizzle-outbox", "baseline"],
      rows: rates.map((one) => ({ label: one.case, values: [one.rate, one.baseline] })),
      logarithmic: false,
    }),
    bars({
      title: "milliseconds (shorter is better)",
      series: ["drizzle-outbox", "baseline"],
      rows: durations.map((one) => ({ label: one.case, values: [one.ms, one.baseline] })),
      logarithmic: false,
    }),
    bars({
      title: "milliseconds, logarithmic (shorter is better)",
      series: ["p50", "p99"],
      rows: timed.map((one) => ({ label: one.case, values: [one.p50, one.p99] })),
      logarithmic: true,
    }),
    ...lines(cases),
  ].filter((panel) => panel !== undefined)
  if (panels.length === 0) return undefined
  let y = 40
  const placed = panels.map(({ height, body }) => {
    const text = `<g transform="translate(0 ${y})">\n${body}\n</g>`
    y += height
    return text
  })
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${y}" viewBox="0 0 ${WIDTH} ${y}" font-family="sans-serif" font-size="12" fill="#0f172a">
<rect width="100%" height="100%" fill="#ffffff"/>
<text x="16" y="26" font-size="16" font-weight="bold">${asText(name)}</text>
${placed.join("\n")}
</svg>
`
}

interface Panel {
  readonly height: number
  readonly body: string
}

const bars = ({ title, series, rows, logarithmic }: Bars): Panel | undefined => {
  const values = rows.flatMap((row) => row.values.filter((value) => value !== undefined))
  if (values.length === 0) return undefined
  const most = Math.max(...values)
  const least = Math.min(...values.filter((value) => value > 0)) / 2
  const length = (value: number) =>
    logarithmic
      ? (Math.log(Math.max(value, least) / least) / Math.log(most / least)) * PLOT
      : (value / most) * PLOT
  let y = 34
  const drawn = rows.map(({ label, values }) => {
    const present = values.flatMap((value, index) => (value === undefined ? [] : [{ value, index }]))
    const middle = y + (present.length * BAR) / 2 + 4
    const text = [`<text x="${LABEL - 10}" y="${middle}" text-anchor="end">${asText(label)}</text>`]
    for (const { value, index } of present) {
      text.push(
        `<rect x="${LABEL}" y="${y}" width="${length(value).toFixed(1)}" height="${BAR - 2}" fill="${COLOURS[index]}"/>`,
        `<text x="${(LABEL + length(value) + 5).toFixed(1)}" y="${y + BAR - 3}" font-size="10">${value.toLocaleString("en")}</text>`,
      )
      y += BAR
    }
    y += GAP
    return text.join("\n")
  })
  return { height: y + 14, body: [heading(title), legend(series), ...drawn].join("\n") }
}

/** A panel for each thing watched, a line for each case. */
const lines = (cases: ReadonlyArray<Case>): Panel[] => {
  const names = new Set(cases.flatMap(({ series }) => Object.keys(series ?? {})))
  return [...names].map((name) => {
    const watched = cases.flatMap((one) => {
      const points = one.series?.[name]
      return points === undefined || points.length === 0 ? [] : [{ label: one.case, points }]
    })
    const all = watched.flatMap(({ points }) => points)
    const [end, most] = [Math.max(...all.map(([x]) => x), 1), Math.max(...all.map(([, y]) => y), 1)]
    const top = 30 + watched.length * 15
    const at = ([x, y]: readonly [number, number]) =>
      `${(60 + (x / end) * (WIDTH - 120)).toFixed(1)},${(top + LINES - (y / most) * LINES).toFixed(1)}`
    const drawn = watched.map(
      ({ label, points }, index) =>
        `<polyline fill="none" stroke="${colour(index)}" stroke-width="1.5" points="${points.map(at).join(" ")}"/>
<rect x="60" y="${22 + index * 15}" width="10" height="10" fill="${colour(index)}"/><text x="76" y="${31 + index * 15}" font-size="10">${asText(label)}</text>`,
    )
    return {
      height: top + LINES + 40,
      body: [
        heading(name),
        `<path d="M60 ${top}V${top + LINES}H${WIDTH - 60}" fill="none" stroke="#64748b"/>`,
        `<text x="55" y="${top + 8}" text-anchor="end" font-size="10">${most.toLocaleString("en")}</text>`,
        `<text x="55" y="${top + LINES}" text-anchor="end" font-size="10">0</text>`,
        `<text x="${WIDTH - 60}" y="${top + LINES + 15}" text-anchor="end" font-size="10">${end.toLocaleString("en")} s</text>`,
        ...drawn,
      ].join("\n"),
    }
  })
}

const colour = (index: number): string => COLOURS[index % COLOURS.length]!

const heading = (text: string): string => `<text x="16" y="14" font-weight="bold">${asText(text)}</text>`

const legend = (series: ReadonlyArray<string>): string =>
  series
    .map(
      (name, index) =>
        `<rect x="${LABEL + 150 * index}" y="19" width="10" height="10" fill="${COLOURS[index]}"/><text x="${LABEL + 16 + 150 * index}" y="28" font-size="11">${asText(name)}</text>`,
    )
    .join("\n")

const asText = (text: string): string =>
  text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;")
