/** A bank as banks are: out of reach at times, and once its answer gets lost after the money was taken. */

export interface Charge {
  /** The same for every repeat of one charge. */
  readonly idempotencyKey: string
  readonly customer: string
  readonly amount: number
}

export interface Answer {
  readonly outcome: "taken" | "refused"
  readonly reason: string | null
}

export interface Bank {
  readonly charge: (charge: Charge) => Promise<Answer>
  /** How often it let somebody down. */
  readonly failures: () => number
  /** Sums taken, by customer. */
  readonly taken: ReadonlyMap<string, number>
}

/** What nobody has on their account. */
const LIMIT = 100

/** A bank that fails the first charge of `unlucky` twice. */
export const openBank = (unlucky: string): Bank => {
  const answers = new Map<string, Answer>()
  const taken = new Map<string, number>()
  let failures = 0
  const decide = ({ customer, amount }: Charge): Answer => {
    if (amount > LIMIT) return { outcome: "refused", reason: `${customer} has no ${amount}` }
    taken.set(customer, (taken.get(customer) ?? 0) + amount)
    return { outcome: "taken", reason: null }
  }
  return {
    failures: () => failures,
    taken,
    charge: async (charge) => {
      const fails = charge.customer === unlucky && failures < 2
      if (fails && ++failures === 1) throw new Error("the bank is out of reach")
      const answer = answers.get(charge.idempotencyKey) ?? decide(charge)
      answers.set(charge.idempotencyKey, answer)
      if (fails) throw new Error("the bank's answer got lost")
      return answer
    },
  }
}
