/** Every fault, on the brokers where it differs, with one relay and with three. */
import type { Cell, Fault } from "./fault.ts"
import { alarm, brokerRestart, brokerWiped, poison, refused } from "./kinds/brokers.ts"
import { backends, exhausted, pooler, postgresCrash, postgresRestart } from "./kinds/databases.ts"
import { failingKey, openWriter, refusedKey } from "./kinds/messages.ts"
import { blackhole, databaseStalled, receiptsLost, reset, slow } from "./kinds/network.ts"
import { clock, consumerKill, relayFreeze, relayKill, relayTerm, upgrade } from "./kinds/processes.ts"

export const faults: ReadonlyArray<Fault> = [
  relayKill,
  consumerKill,
  relayFreeze,
  relayTerm,
  brokerRestart,
  brokerWiped,
  blackhole,
  receiptsLost,
  reset,
  slow,
  alarm,
  postgresRestart,
  postgresCrash,
  backends,
  databaseStalled,
  exhausted,
  pooler,
  clock,
  upgrade,
  poison,
  refused,
  refusedKey,
  failingKey,
  openWriter,
]

export const cells: ReadonlyArray<Cell> = faults.flatMap((fault) =>
  fault.brokers.flatMap((broker) =>
    [1, 3].map((relays) => ({ name: `${fault.name} ${broker} ${relays}`, fault, broker, relays })),
  ),
)

/** Every fault once, on each broker some, with one relay some and with three others. */
export const quickCells: ReadonlyArray<Cell> = faults.map((fault, index) => {
  const broker = fault.brokers[index % fault.brokers.length] ?? "RabbitMQ"
  return cells.find(
    (cell) => cell.fault === fault && cell.broker === broker && cell.relays === (index % 3 === 0 ? 1 : 3),
  ) as Cell
})
