/** Heart-beats: what each side promises, and when silence is an end. */
import type { Frame } from "./parser.ts"

/** Milliseconds between signs of life, at most; 0 for none. */
export interface Terms {
  readonly promised: number
  readonly expected: number
  /** So long without a byte is an end. */
  readonly silence: number
}

/**
 * We promise three beats to one, as a broker drops a client only at two to three times what that promised; and we expect
 * two to one, so that a heart-beat of silence is an end. Together, whoever stands by for a client that was cut off, and
 * has to wait for both, waits for two heart-beats. In whole seconds, as RabbitMQ counts.
 */
export const termsFor = (heartbeat: number): Terms => ({
  promised: heartbeat === 0 ? 0 : wholeSeconds(heartbeat / 3),
  expected: heartbeat < 1000 ? heartbeat : wholeSeconds(heartbeat / 2),
  silence: heartbeat,
})

const wholeSeconds = (millis: number) => Math.max(1000, Math.floor(millis / 1000) * 1000)

/** What both sides keep to, by the broker's answer to CONNECT; 0 where one of them does not want to. */
export const agreed = (wanted: Terms, { headers }: Frame): Terms => {
  const [sends = 0, wants = 0] = (headers["heart-beat"] ?? "0,0").split(",").map((text) => Number(text) || 0)
  const expected = wanted.expected === 0 || sends === 0 ? 0 : Math.max(wanted.expected, sends)
  return {
    promised: wanted.promised === 0 || wants === 0 ? 0 : Math.max(wanted.promised, wants),
    expected,
    silence: Math.max(wanted.silence, 2 * expected),
  }
}

export interface Heartbeat {
  /** Something was received. */
  readonly alive: () => void
  readonly stop: () => void
}

/** Beats twice as often as promised, and calls `onSilence` once nothing was received for too long. */
export const startHeartbeat = (
  { promised, expected, silence }: Terms,
  beat: () => void,
  onSilence: (milliseconds: number) => void,
): Heartbeat => {
  let last = performance.now()
  let watch: NodeJS.Timeout | undefined
  let stopped = false
  const look = () => {
    if (stopped) return
    const left = last + silence - performance.now()
    if (left > 0) watch = setTimeout(look, Math.ceil(left))
    // A process that was busy may not have read yet what has come: it does before this.
    else setImmediate(judge)
  }
  const judge = () => {
    if (stopped) return
    if (last + silence > performance.now()) look()
    else onSilence(silence)
  }
  if (expected > 0) watch = setTimeout(look, silence)
  const beating = promised === 0 ? undefined : setInterval(beat, promised / 2)
  return {
    alive: () => {
      last = performance.now()
    },
    stop: () => {
      stopped = true
      clearTimeout(watch)
      clearInterval(beating)
    },
  }
}
