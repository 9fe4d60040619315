/** The handler that a command line names: an export of a module of the user's. */
import { statSync } from "node:fs"
import { createRequire } from "node:module"
import { isAbsolute, resolve } from "node:path"
import { pathToFileURL } from "node:url"
import * as Effect from "effect/Effect"
import { CliError } from "./failure.ts"
import type { ModuleExport } from "./kind.ts"
import { closest } from "./suggest.ts"

/** What a module may export as a handler: a function that returns an Effect or a Promise. */
export type LoadedHandler = (...args: ReadonlyArray<unknown>) => unknown

/** Loads it; fails with a sentence that says what is missing. */
export const loadHandler = (named: ModuleExport): Effect.Effect<LoadedHandler, CliError> =>
  Effect.gen(function* () {
    const { url, typescript } = yield* Effect.try({
      try: () => locate(named.module, process.cwd()),
      catch: (error) => (error instanceof CliError ? error : failed(named.module, error)),
    })
    if (typescript && !runsTypeScript())
      return yield* new CliError({
        message: `${named.module} is TypeScript, which Node ${process.versions.node} does not run: build it first, or use Node 22.18 or newer`,
      })
    return yield* pick(named, yield* load(named.module, url))
  })

type Exports = Readonly<Record<string, unknown>>

/** A module may wait at its top for what never comes: then nothing is left to run, and Node would end without a word. */
const load = (module: string, url: string): Effect.Effect<Exports, CliError> =>
  Effect.callback<Exports, CliError>((resume) => {
    const stuck = () =>
      resume(
        Effect.fail(
          new CliError({ message: `could not load ${module}: it awaits something that never comes` }),
        ),
      )
    process.once("beforeExit", stuck)
    import(url)
      .then(
        (loaded: Exports) => resume(Effect.succeed(loaded)),
        (error) => resume(Effect.fail(failed(module, error))),
      )
      .finally(() => process.off("beforeExit", stuck))
  })

const pick = (named: ModuleExport, loaded: Exports) => {
  // Of a CommonJS module Node may see nothing but its default export.
  const whole = loaded["default"]
  const inner = typeof whole === "object" && whole !== null ? (whole as Record<string, unknown>) : {}
  const exports = { ...inner, ...loaded }
  const found = exports[named.export]
  if (typeof found === "function") return Effect.succeed(found as LoadedHandler)
  const names = Object.keys(exports).filter((name) => name !== "module.exports" && name !== "__esModule")
  const near = closest(named.export, names)
  const listed = names.length === 0 ? "it exports nothing" : `it exports ${names.join(", ")}`
  return Effect.fail(
    new CliError({
      message: Object.hasOwn(exports, named.export)
        ? `${JSON.stringify(named.export)} of ${named.module} is ${kindOf(found)}: expected the handler, a function`
        : `${named.module} has no export ${JSON.stringify(named.export)}${near === undefined ? "" : ` (did you mean ${near}?)`}: ${listed}`,
    }),
  )
}

/** A path, from the working directory, or else a package as the working directory sees it. */
const locate = (module: string, folder: string): { readonly url: string; readonly typescript: boolean } => {
  const path = resolve(folder, module)
  const typescript = /\.[cm]?tsx?$/.test(module)
  if (isFile(path)) return { url: pathToFileURL(path).href, typescript }
  if (/^\.{1,2}(\/|\\|$)/.test(module) || isAbsolute(module) || typescript)
    throw new CliError({ message: `there is no module ${path}` })
  try {
    const found = createRequire(resolve(folder, "package.json")).resolve(module)
    return { url: isAbsolute(found) ? pathToFileURL(found).href : found, typescript: false }
  } catch (error) {
    const code = codeOf(error)
    // It is there, for `import` alone.
    if (code === "ERR_PACKAGE_PATH_NOT_EXPORTED") return { url: module, typescript: false }
    if (code === "MODULE_NOT_FOUND")
      throw new CliError({
        message: `there is neither a file nor a package ${JSON.stringify(module)} in ${folder}`,
      })
    throw error
  }
}

const isFile = (path: string): boolean => statSync(path, { throwIfNoEntry: false })?.isFile() ?? false

const runsTypeScript = (): boolean => {
  const features: { readonly typescript?: unknown } = process.features
  return Boolean(features.typescript)
}

/** A module that cannot be loaded says why itself. */
const failed = (module: string, error: unknown): CliError => {
  const kind = error instanceof SyntaxError ? "SyntaxError: " : ""
  const words = (error instanceof Error ? error.message : String(error)).replace(/\s*\n\s*/g, " ")
  return new CliError({ message: `could not load ${module}: ${kind}${words}${placeOf(error)}` })
}

/** Where it happened, in a file of the user's, as the first such place of the stack has it. */
const placeOf = (error: unknown): string => {
  const stack = error instanceof Error ? (error.stack ?? "") : ""
  const place = /(?:^|[\s(]|file:\/\/)(\/[^\s()]+:\d+(?::\d+)?)\)?$/m.exec(stack)?.[1]
  return place === undefined ? "" : ` (${place})`
}

const codeOf = (error: unknown): unknown =>
  typeof error === "object" && error !== null && "code" in error ? error.code : undefined

const kindOf = (value: unknown): string =>
  value === null ? "null" : typeof value === "object" ? "an object" : `a ${typeof value}`
