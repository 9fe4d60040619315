/** A command: its settings, its own options, and what it runs. */
import * as Effect from "effect/Effect"
import { type Config, readConfig, type SettingName } from "../config.ts"
import { ConsumerError } from "../consumer/error.ts"
import { parseArguments } from "./arguments.ts"
import { CliError } from "./failure.ts"
import { helpOf } from "./help.ts"
import type { Kind } from "./kind.ts"

/** A flag of one command alone, without a variable. Without a kind it takes no value. */
export interface Option {
  readonly kind?: Kind<unknown>
  readonly default?: string
  /** It may be given again and again: its values are read as lines of one text. */
  readonly many?: boolean
  /** It must be given. */
  readonly required?: boolean
  readonly help: string
}

/** Values of a command's own options. */
export type OptionValues<O> = {
  readonly [K in keyof O]: O[K] extends { readonly kind: Kind<infer A> }
    ? O[K] extends { readonly default: string } | { readonly required: true }
      ? A
      : A | undefined
    : boolean
}

/** Whatever ends a command has a sentence. */
export interface Failure {
  readonly message: string
}

export interface CommandDefinition<S extends SettingName, O extends Readonly<Record<string, Option>>> {
  /** As it is typed: "dead list". */
  readonly name: string
  /** One sentence. */
  readonly summary: string
  /** What more `--help` says. */
  readonly details?: string
  readonly settings: ReadonlyArray<S>
  readonly options: O
  /** The options that arguments without a flag stand for, in their order. */
  readonly arguments?: ReadonlyArray<keyof O & string>
  /** A stop by signal is its regular end: exit 0. */
  readonly service?: boolean
  readonly run: (config: Config<S>, options: OptionValues<O>) => Effect.Effect<void, Failure>
}

/** A command as the programs see it. */
export interface Command {
  readonly name: string
  readonly summary: string
  readonly service: boolean
  /** Reads arguments and variables, and runs. Fails with the sentence that ends the program. */
  readonly start: (
    argv: ReadonlyArray<string>,
    environment: NodeJS.ProcessEnv,
  ) => Effect.Effect<void, Failure>
}

/** Types a command's settings and options by their tables. */
export const defineCommand = <const S extends SettingName, const O extends Readonly<Record<string, Option>>>(
  definition: CommandDefinition<S, O>,
): Command => ({
  name: definition.name,
  summary: definition.summary,
  service: definition.service ?? false,
  start: (argv, environment) =>
    Effect.suspend(() => {
      const parsed = parseArguments(definition, argv)
      if (parsed === "help") return print(helpOf(definition))
      const config = readConfig(definition.settings, environment, parsed.settings)
      return definition.run(config, parsed.options as OptionValues<O>)
    }).pipe(Effect.catchDefect(expected)),
})

/** A sentence thrown by plain code is a failure; anything else stays the defect it is. */
const expected = (defect: unknown): Effect.Effect<never, CliError> =>
  defect instanceof CliError
    ? Effect.fail(defect)
    : defect instanceof ConsumerError
      ? Effect.fail(new CliError({ message: defect.message }))
      : Effect.die(defect)

/** Writes to standard output. */
export const print = (text: string): Effect.Effect<void> =>
  Effect.sync(() => void process.stdout.write(text.endsWith("\n") ? text : `${text}\n`))
