/** `node dist/relay.js` */
import { runMain } from "./cli/main.ts"
import { relayCommand } from "./cli/relay.ts"

runMain(relayCommand, process.argv.slice(2))
