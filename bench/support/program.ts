/** Parts of a bench that run in processes of their own, as they would in life, and are asked and answered by messages. */
import { type ChildProcess, fork } from "node:child_process"
import { fileURLToPath } from "node:url"

export interface Program<Ask, Answer> {
  readonly pid: number
  /** One at a time. Rejects with the words of its error. */
  readonly ask: (ask: Ask) => Promise<Answer>
  readonly stop: () => Promise<void>
}

const running = new Set<ChildProcess>()
process.on("exit", () => {
  for (const child of running) child.kill("SIGKILL")
})

export interface Runtime {
  /** Default: this Node. */
  readonly node?: string
  /** Its options. */
  readonly flags?: ReadonlyArray<string>
}

/** Starts a program by the name of its file beside this one, and waits until it is ready. */
export const startProgram = async <Ask, Answer>(
  name: string,
  config: unknown,
  { node = process.execPath, flags = [] }: Runtime = {},
): Promise<Program<Ask, Answer>> => {
  const child = fork(fileURLToPath(new URL(`./${name}.js`, import.meta.url)), {
    serialization: "advanced",
    execPath: node,
    execArgv: [...flags],
  })
  running.add(child)
  const ended = new Promise<void>((resolve) => {
    child.once("exit", () => {
      running.delete(child)
      resolve()
    })
  })
  const send = (message: unknown): Promise<Answer> =>
    new Promise((resolve, reject) => {
      const onExit = () => reject(new Error(`${name} ended`))
      child.once("exit", onExit)
      child.once("message", (reply: { readonly answer: Answer } | { readonly error: string }) => {
        child.removeListener("exit", onExit)
        if ("error" in reply) reject(new Error(`${name}: ${reply.error}`))
        else resolve(reply.answer)
      })
      child.send(message as object)
    })
  await send(config)
  return {
    pid: child.pid ?? 0,
    ask: send,
    stop: () => {
      if (child.connected) child.disconnect()
      return ended
    },
  }
}

export interface Served<Ask, Answer> {
  readonly answer: (ask: Ask) => Promise<Answer>
  /** What is left to do when nobody asks any more. */
  readonly close?: () => Promise<unknown>
}

/** What such a program does: makes itself ready with its configuration, then answers until nobody asks any more. */
export const serve = <Config, Ask, Answer>(ready: (config: Config) => Promise<Served<Ask, Answer>>): void => {
  let served: Served<Ask, Answer> | undefined
  process.on("disconnect", async () => {
    await served?.close?.()
    process.exit(0)
  })
  process.on("message", async (message) => {
    try {
      if (served === undefined) {
        served = await ready(message as Config)
        process.send?.({ answer: undefined })
      } else process.send?.({ answer: await served.answer(message as Ask) })
    } catch (error) {
      process.send?.({ error: error instanceof Error ? error.message : String(error) })
    }
  })
}
