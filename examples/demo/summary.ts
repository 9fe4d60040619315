/** What came of the demo, and whether it adds up. */

export interface Summary {
  readonly committed: number
  readonly rolledBack: number
  readonly published: number
  readonly received: number
  /** Orders that exist and of which nobody heard. */
  readonly lost: number
  /** Orders that were heard of and do not exist. */
  readonly invented: number
  readonly seconds: number
  readonly broker: string
  readonly database: string
}

/** A sentence for each number that does not fit the others. */
export const doubts = (summary: Summary, orders: number): ReadonlyArray<string> => {
  const { committed, rolledBack, published, received, lost, invented } = summary
  const expectations: ReadonlyArray<readonly [boolean, string]> = [
    [
      committed + rolledBack === orders,
      `${committed} committed and ${rolledBack} rolled back are not ${orders}`,
    ],
    [rolledBack > 0, "nothing was rolled back"],
    [published === committed, `${published} published for ${committed} committed`],
    [received === committed, `${received} received for ${committed} committed`],
    [lost === 0, `${lost} lost`],
    [invented === 0, `${invented} invented`],
  ]
  return expectations.filter(([holds]) => !holds).map(([, sentence]) => sentence)
}

/** The summary for people. */
export const readable = (summary: Summary, repeated: number): string =>
  [
    "",
    `database     ${summary.database}`,
    `broker       ${summary.broker}`,
    `committed    ${summary.committed}`,
    `rolled back  ${summary.rolledBack}`,
    `published    ${summary.published}`,
    `received     ${summary.received}${repeated === 0 ? "" : ` (and ${repeated} repeats)`}`,
    `lost         ${summary.lost}`,
    `invented     ${summary.invented}`,
    `seconds      ${summary.seconds}`,
  ].join("\n")
