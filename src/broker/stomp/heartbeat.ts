/** Heart-beats: what each side promises, and when silence is an end. */
import type { Frame } from "./parser.ts"

/** Milliseconds between signs of life, at most; 0 for none. */
export interface Terms {
  readonly promised: number
  readonly expected: number
}

/**
 * We promise three times as often as we expect: a broker drops a client at two to three times what that promised, and
 * whoever stands by must not wait for longer. In whole seconds, as RabbitMQ counts.
 */
export const termsFor = (heartbeat: number): Terms => ({
  promised: heartbeat === 0 ? 0 : Math.max(1000, Math.floor(heartbeat / 3000) * 1000),
  expected: heartbeat,
})

/** What both sides keep to, by the broker's answer to CONNECT; 0 where one of them does not want to. */
export const agreed = (wanted: Terms, { headers }: Frame): Terms => {
  const [sends = 0, wants = 0] = (headers["heart-beat"] ?? "0,0").split(",").map((text) => Number(text) || 0)
  return {
    promised: wanted.promised === 0 || wants === 0 ? 0 : Math.max(wanted.promised, wants),
    expected: wanted.expected === 0 || sends === 0 ? 0 : Math.max(wanted.expected, sends),
  }
}

export interface Heartbeat {
  /** Something was received. */
  readonly alive: () => void
  readonly stop: () => void
}

/** Beats twice as often as promised, and calls `onSilence` once nothing was received for twice the time expected. */
export const startHeartbeat = (
  { promised, expected }: Terms,
  beat: () => void,
  onSilence: (milliseconds: number) => void,
): Heartbeat => {
  const limit = 2 * expected
  let last = performance.now()
  let watch: NodeJS.Timeout | undefined
  const look = () => {
    const left = last + limit - performance.now()
    if (left <= 0) onSilence(limit)
    else watch = setTimeout(look, Math.ceil(left))
  }
  if (expected > 0) watch = setTimeout(look, limit)
  const beating = promised === 0 ? undefined : setInterval(beat, promised / 2)
  return {
    alive: () => {
      last = performance.now()
    },
    stop: () => {
      clearTimeout(watch)
      clearInterval(beating)
    },
  }
}
