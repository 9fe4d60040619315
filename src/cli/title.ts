/** What others see of this process in `ps`. */
import { flagOf, type SettingName, settings } from "../config.ts"

const secretFlags = (Object.keys(settings) as SettingName[])
  .filter((name) => "secret" in settings[name].kind)
  .map((name) => `--${flagOf(name)}`)

/** Where a secret may stand among the arguments, overwrites them all with the program's name. */
export const hideArguments = (command: string, argv: ReadonlyArray<string>): void => {
  const secret = argv.some(
    (argument) => argument.includes("://") || secretFlags.some((flag) => argument.startsWith(flag)),
  )
  if (secret) process.title = `drizzle-outbox ${command}`.trimEnd()
}
