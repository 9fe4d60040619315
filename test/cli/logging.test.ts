import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, type LogLevel } from "effect"
import { layerLogging } from "../../src/cli/logging.ts"

/** What is written of these logs, to a terminal or not. */
const written = async (
  isTTY: boolean,
  logs: Effect.Effect<void>,
  level: LogLevel.LogLevel = "Info",
): Promise<string> => {
  let output = ""
  const stream = {
    isTTY,
    write: (text: string) => {
      output += text
      return true
    },
  } as unknown as NodeJS.WriteStream
  await Effect.runPromise(logs.pipe(Effect.provide(layerLogging(level, stream))))
  return output
}

const death = Effect.logWarning("message dead").pipe(
  Effect.annotateLogs({
    key: "c 1",
    destination: "/topic/a",
    attempts: 50,
    reason: "no\nroom",
    level: "mine",
  }),
)

describe("logs", () => {
  it("are JSON lines beside a terminal, whose own names no annotation takes", async () => {
    const line = await written(false, death)
    assert.strictEqual(line.indexOf("\n"), line.length - 1)
    const { time, ...rest } = JSON.parse(line)
    assert.match(time, /^\d{4}-\d\d-\d\dT/)
    assert.deepStrictEqual(rest, {
      level: "warn",
      message: "message dead",
      key: "c 1",
      destination: "/topic/a",
      attempts: 50,
      reason: "no\nroom",
    })
  })

  it("are single readable lines on a terminal, which they cannot move about in", async () => {
    assert.match(
      await written(true, death),
      /^[\d:.]{12} WARN {2}message dead key="c 1" destination=\/topic\/a attempts=50 reason="no\\nroom" level=mine\n$/,
    )
    assert.notInclude(await written(true, Effect.logInfo("a\u001b[2Jb\rc\nd")), "\u001b")
  })

  it("show no password and nothing of an error but its words", async () => {
    const error = Object.assign(new Error("at postgres://app:hunter2@db/shop"), { parameters: ["a body"] })
    for (const isTTY of [true, false]) {
      const output = await written(
        isTTY,
        Effect.logWarning(error).pipe(
          Effect.andThen(Effect.logError("the loop failed", Cause.die(error))),
          Effect.annotateLogs({ url: "stomp://a:hunter2@b" }),
        ),
      )
      assert.notInclude(output, "hunter2")
      assert.notInclude(output, "a body")
      assert.include(output, "postgres://app:***@db/shop")
    }
  })

  it("leave out what is below their level", async () => {
    assert.strictEqual(await written(false, death, "Error"), "")
    assert.strictEqual(await written(false, Effect.logError("x"), "None"), "")
  })
})
