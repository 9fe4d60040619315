#!/usr/bin/env node
/** `drizzle-outbox` */
import { findCommand } from "./cli/commands.ts"
import { runMain } from "./cli/main.ts"

const { command, rest } = findCommand(process.argv.slice(2))
runMain(command, rest)
