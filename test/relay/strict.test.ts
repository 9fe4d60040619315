/** The relay as a process before a real RabbitMQ: what leads nowhere stays pending in strict mode, and is gone without it. */
import { randomUUID } from "node:crypto"
import { assert, describe, inject, it } from "@effect/vitest"
import { createDatabase, type TestDatabase } from "../support/postgres.ts"
import { rabbitApi } from "../support/rabbitmq-api.ts"
import { eventually, writeMessages } from "../support/relay.ts"
import { type RelayProcess, spawnRelay } from "../support/relay-process.ts"

const api = () => rabbitApi(inject("rabbitmq").managementUrl)
const strict = (managementUrl = inject("rabbitmq").managementUrl) => ({
  OUTBOX_STRICT: "on",
  OUTBOX_BROKER_MANAGEMENT_URL: managementUrl,
})

const scene = async (
  env: Readonly<Record<string, string>>,
  test: (scene: {
    readonly relay: RelayProcess
    readonly database: TestDatabase
    /** A name for queues and topics of this test. */
    readonly name: string
  }) => Promise<void>,
) => {
  const database = await createDatabase()
  const name = `s${randomUUID().slice(0, 8)}`
  await api().queue(name)
  await api().bind("amq.topic", name, `${name}.bound`)
  const relay = spawnRelay(database.url, inject("rabbitmq").stompUrl, env)
  try {
    await test({ relay, database, name })
  } finally {
    await relay.stop("SIGKILL")
    await api().remove("queues", name)
    await database.drop()
  }
}

const rowsOf = ({ sql }: TestDatabase, destination: string) =>
  sql<{ published: boolean; attempts: number; words: string | null }[]>`
    SELECT published_at IS NOT NULL AS published, attempts, last_error AS words FROM outbox.messages
    WHERE destination = ${destination} ORDER BY position`

const publishedOf = async (database: TestDatabase, destination: string) =>
  (await rowsOf(database, destination)).filter(({ published }) => published).length

describe("strict mode", () => {
  it("keeps what leads nowhere pending, lets others flow beside it, and sends it once something is bound", () =>
    scene(strict(), async ({ relay, database, name }) => {
      const [bound, nobody] = [`/topic/${name}.bound`, `/topic/${name}.nobody`]
      await writeMessages(database.sql, { count: 3, destination: nobody, key: "k" })
      await writeMessages(database.sql, { count: 500, destination: bound, keys: 10 })
      await eventually(async () => assert.strictEqual(await publishedOf(database, bound), 500), 20)
      await eventually(async () => {
        const [first] = await rowsOf(database, nobody)
        assert.include(
          first?.words,
          `leads nowhere: nothing is bound to exchange "amq.topic" for the routing key "${name}.nobody"`,
        )
      })
      // Some probes later nothing has changed, but for others that go on.
      await new Promise((resolve) => setTimeout(resolve, 4000))
      await writeMessages(database.sql, { count: 100, destination: bound })
      await eventually(async () => assert.strictEqual(await publishedOf(database, bound), 600))
      for (const { published, attempts } of await rowsOf(database, nobody)) {
        assert.isFalse(published)
        assert.strictEqual(attempts, 0)
      }
      const lines = relay.output().match(/destination held/g) ?? []
      assert.isAtLeast(lines.length, 1)
      assert.isAtMost(lines.length, 4, "one line a back-off step")

      await api().bind("amq.topic", name, `${name}.nobody`)
      await eventually(async () => assert.strictEqual(await publishedOf(database, nobody), 3), 12)
      assert.strictEqual(await api().depth(name), 603)
    }))

  it("is what a relay without it lacks: RabbitMQ confirms and drops", () =>
    scene({}, async ({ database, name }) => {
      const nobody = `/topic/${name}.nobody`
      await writeMessages(database.sql, { count: 3, destination: nobody, key: "k" })
      await eventually(async () => assert.strictEqual(await publishedOf(database, nobody), 3), 20)
      await api().bind("amq.topic", name, `${name}.nobody`)
      assert.strictEqual(await api().depth(name), 0)
    }))

  it("notices that a queue has gone while it runs", () =>
    scene(strict(), async ({ database, name }) => {
      const gone = `/amq/queue/${name}.own`
      await api().queue(`${name}.own`)
      await writeMessages(database.sql, { count: 1, destination: gone })
      await eventually(async () => assert.strictEqual(await publishedOf(database, gone), 1), 20)
      await api().remove("queues", `${name}.own`)
      await new Promise((resolve) => setTimeout(resolve, 11_000))
      await writeMessages(database.sql, { count: 1, destination: gone })
      await eventually(async () => {
        const [, second] = await rowsOf(database, gone)
        assert.include(second?.words, `there is no queue "${name}.own"`)
      })
      assert.strictEqual(await publishedOf(database, gone), 1)
    }))

  it("sends everything, with a warning, while the management API is away", () =>
    scene(strict("http://127.0.0.1:1"), async ({ relay, database, name }) => {
      const nobody = `/topic/${name}.nobody`
      await writeMessages(database.sql, { count: 3, destination: nobody })
      await eventually(async () => assert.strictEqual(await publishedOf(database, nobody), 3), 20)
      assert.match(
        relay.output(),
        /where destinations lead is not known, so everything is sent: .*ECONNREFUSED/,
      )
      assert.notInclude(relay.output(), "guest:guest")
    }))

  it("asks for the management URL", () =>
    scene({ OUTBOX_STRICT: "on" }, async ({ relay }) => {
      await eventually(() =>
        assert.include(relay.output(), "OUTBOX_STRICT needs OUTBOX_BROKER_MANAGEMENT_URL"),
      )
    }))
})
