/** `npm run test:outages`: relays and consumers, in this process and outside, whose servers and processes are taken down, one test after another; and whether the models notice broken ones. `OUTBOX_TEST_FULL=1` for the numbers of the promises. */
import base from "./vitest.config.ts"

export default {
  ...base,
  test: {
    ...base.test,
    include: ["test/outages/**/*.test.ts", "test/model/mutants.test.ts"],
    exclude: [],
    fileParallelism: false,
  },
}
