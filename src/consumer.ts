/** `node dist/consumer.js` */
import { runMain } from "./cli/main.ts"
import { subscribeCommand } from "./cli/subscribe.ts"

runMain(subscribeCommand, process.argv.slice(2))
