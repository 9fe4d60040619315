/** `node with-rabbitmq.js COMMAND …`: runs a command with OUTBOX_BROKER_URL of a RabbitMQ that lives as long as it does. */
import { spawn } from "node:child_process"
import { startRabbit } from "./rabbitmq.ts"

const [command, ...args] = process.argv.slice(2)
if (command === undefined) {
  console.error("usage: with-rabbitmq COMMAND [ARGUMENT …]")
  process.exit(1)
}
const rabbit = await startRabbit()
const child = spawn(command, args, {
  stdio: "inherit",
  env: { ...process.env, OUTBOX_BROKER_URL: rabbit.stompUrl },
})
const code = await new Promise<number>((resolve) => {
  child.once("error", (error) => {
    console.error(error.message)
    resolve(1)
  })
  child.once("exit", (exit) => resolve(exit ?? 1))
})
await rabbit.remove()
process.exit(code)
