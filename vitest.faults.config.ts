/** `npm run test:faults`: what takes servers and processes down, one after another. `OUTBOX_TEST_FULL=1` for the numbers of the promises. */
import base from "./vitest.config.ts"

export default {
  ...base,
  test: { ...base.test, include: ["test/faults/**/*.test.ts"], exclude: [], fileParallelism: false },
}
