/** What README and docs say of faults is what the last full run of the harness found. */
import { readFileSync } from "node:fs"
import { assert, describe, it } from "@effect/vitest"
import { cells, faults } from "../faults/matrix.ts"
import { page, readReport, summary, withTable } from "../faults/report.ts"

describe("the fault table", () => {
  const report = readReport()

  it("in the README and on its page is that of the last full run", () => {
    const readme = readFileSync("README.md", "utf8")
    assert.strictEqual(readme, withTable(readme, summary(report)))
    assert.strictEqual(readFileSync("docs/faults.md", "utf8"), page(report))
  })

  it("has every cell of the matrix, each as promised and with enough of everything", () => {
    assert.sameMembers(
      report.cells.map(({ cell }) => cell),
      cells.map(({ name }) => name),
    )
    for (const cell of report.cells) {
      assert.deepStrictEqual(cell.faults, [], cell.cell)
      assert.isAtLeast(cell.committed, 5000, cell.cell)
      assert.isAtLeast(cell.injections, 10, cell.cell)
      assert.isAtLeast(cell.inFlight[0], 1, cell.cell)
    }
    assert.isAtLeast(
      report.cells.reduce((sum, { committed }) => sum + committed, 0),
      1_000_000,
    )
    assert.lengthOf(new Set(report.cells.map(({ fault }) => fault)), faults.length)
  })
})
