/** Binding keys of topic exchanges. */

/** Whether a pattern takes a routing key: words between dots, `*` one of any, `#` any number of any. */
export const matchesTopic = (pattern: string, key: string): boolean => {
  const words = wordsOf(key)
  // From which words on the rest of the pattern may begin.
  let starts = new Set([0])
  for (const part of wordsOf(pattern)) {
    const next = new Set<number>()
    for (const start of starts) {
      if (part === "#") for (let at = start; at <= words.length; at++) next.add(at)
      else if (start < words.length && (part === "*" || part === words[start])) next.add(start + 1)
    }
    starts = next
  }
  return starts.has(words.length)
}

/** An empty key has no word. */
const wordsOf = (text: string): ReadonlyArray<string> => (text === "" ? [] : text.split("."))
