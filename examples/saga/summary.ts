/** What came of the saga, and whether it adds up. */

export interface Summary {
  readonly placed: number
  readonly confirmed: number
  readonly cancelled: number
  /** Orders that were settled never, or more than once. */
  readonly unsettled: number
  /** Settled orders that do not carry the id of the request that placed them. */
  readonly uncorrelated: number
  /** What is left in stock, and what there was. */
  readonly stock: number
  readonly stockBefore: number
  /** What the bank took, and what the confirmed orders cost. */
  readonly taken: number
  readonly owed: number
  /** How often the bank let the payments service down, and it tried again. */
  readonly bankFailures: number
  readonly dead: number
  readonly seconds: number
  readonly broker: string
}

/** A sentence for each number that does not fit the others. */
export const doubts = (summary: Summary, orders: number): ReadonlyArray<string> => {
  const { placed, confirmed, cancelled, unsettled, uncorrelated, stock, stockBefore, taken, owed } = summary
  const expectations: ReadonlyArray<readonly [boolean, string]> = [
    [placed === orders, `${placed} placed of ${orders}`],
    [confirmed > 0 && cancelled > 0, `${confirmed} confirmed and ${cancelled} cancelled show one way only`],
    [confirmed + cancelled === placed, `${confirmed} confirmed and ${cancelled} cancelled are not ${placed}`],
    [unsettled === 0, `${unsettled} not settled once`],
    [uncorrelated === 0, `${uncorrelated} lost their correlation id`],
    [stock === stockBefore - confirmed, `${stock} left of ${stockBefore} after ${confirmed} confirmed`],
    [taken === owed, `the bank took ${taken} for orders of ${owed}`],
    [summary.bankFailures === 2, `the bank failed ${summary.bankFailures} times instead of twice`],
    [summary.dead === 0, `${summary.dead} dead`],
  ]
  return expectations.filter(([holds]) => !holds).map(([, sentence]) => sentence)
}

/** The summary for people. */
export const readable = (summary: Summary): string =>
  [
    "",
    `broker         ${summary.broker}`,
    `placed         ${summary.placed}`,
    `confirmed      ${summary.confirmed}`,
    `cancelled      ${summary.cancelled}, their stock given back`,
    `stock          ${summary.stock} of ${summary.stockBefore}`,
    `taken          ${summary.taken}, owed ${summary.owed}`,
    `bank failures  ${summary.bankFailures}, tried again from the inbox`,
    `dead           ${summary.dead}`,
    `seconds        ${summary.seconds}`,
  ].join("\n")
