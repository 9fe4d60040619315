/** Compiled, never run: sixty tables of twenty columns, each with an event, in one definition. */
import { bigint, boolean, integer, numeric, pgTable, text, timestamp, uuid } from "drizzle-orm/pg-core"
import { drizzle } from "drizzle-orm/postgres-js"
import { defineOutbox, type EventBody } from "../../src/index.ts"

const wide = <N extends string>(name: N) =>
  pgTable(name, {
    id: uuid().primaryKey().defaultRandom(),
    ...{ a: text().notNull(), b: text(), c: text(), d: text(), e: text() },
    ...{ f: integer().notNull(), g: integer(), h: integer(), i: numeric(), j: numeric() },
    ...{ k: timestamp().defaultNow().notNull(), l: timestamp(), m: timestamp({ mode: "string" }) },
    ...{ n: boolean().notNull().default(false), o: boolean(), p: bigint({ mode: "bigint" }) },
    ...{ q: bigint({ mode: "number" }), r: text().array(), s: integer().array() },
  })

const t0 = wide("t0")
const t1 = wide("t1")
const t2 = wide("t2")
const t3 = wide("t3")
const t4 = wide("t4")
const t5 = wide("t5")
const t6 = wide("t6")
const t7 = wide("t7")
const t8 = wide("t8")
const t9 = wide("t9")
const t10 = wide("t10")
const t11 = wide("t11")
const t12 = wide("t12")
const t13 = wide("t13")
const t14 = wide("t14")
const t15 = wide("t15")
const t16 = wide("t16")
const t17 = wide("t17")
const t18 = wide("t18")
const t19 = wide("t19")
const t20 = wide("t20")
const t21 = wide("t21")
const t22 = wide("t22")
const t23 = wide("t23")
const t24 = wide("t24")
const t25 = wide("t25")
const t26 = wide("t26")
const t27 = wide("t27")
const t28 = wide("t28")
const t29 = wide("t29")
const t30 = wide("t30")
const t31 = wide("t31")
const t32 = wide("t32")
const t33 = wide("t33")
const t34 = wide("t34")
const t35 = wide("t35")
const t36 = wide("t36")
const t37 = wide("t37")
const t38 = wide("t38")
const t39 = wide("t39")
const t40 = wide("t40")
const t41 = wide("t41")
const t42 = wide("t42")
const t43 = wide("t43")
const t44 = wide("t44")
const t45 = wide("t45")
const t46 = wide("t46")
const t47 = wide("t47")
const t48 = wide("t48")
const t49 = wide("t49")
const t50 = wide("t50")
const t51 = wide("t51")
const t52 = wide("t52")
const t53 = wide("t53")
const t54 = wide("t54")
const t55 = wide("t55")
const t56 = wide("t56")
const t57 = wide("t57")
const t58 = wide("t58")
const t59 = wide("t59")

const { withOutbox, events } = defineOutbox({
  t0: {
    table: t0,
    destination: "/topic/t0",
    key: (r) => r.a,
    serializer: (r) => ({ id: r.id, at: r.k, big: r.p }),
  },
  t1: { table: t1, destination: "/topic/t1", key: (r) => r.a, fields: ["id", "f", "p"] },
  t2: { table: t2, destination: "/topic/t2", key: (r) => r.a, version: "v1" },
  t3: {
    table: t3,
    destination: "/topic/t3",
    key: (r) => r.a,
    serializer: (r) => ({ id: r.id, at: r.k, big: r.p }),
  },
  t4: { table: t4, destination: "/topic/t4", key: (r) => r.a, fields: ["id", "f", "p"] },
  t5: { table: t5, destination: "/topic/t5", key: (r) => r.a, version: "v1" },
  t6: {
    table: t6,
    destination: "/topic/t6",
    key: (r) => r.a,
    serializer: (r) => ({ id: r.id, at: r.k, big: r.p }),
  },
  t7: { table: t7, destination: "/topic/t7", key: (r) => r.a, fields: ["id", "f", "p"] },
  t8: { table: t8, destination: "/topic/t8", key: (r) => r.a, version: "v1" },
  t9: {
    table: t9,
    destination: "/topic/t9",
    key: (r) => r.a,
    serializer: (r) => ({ id: r.id, at: r.k, big: r.p }),
  },
  t10: { table: t10, destination: "/topic/t10", key: (r) => r.a, fields: ["id", "f", "p"] },
  t11: { table: t11, destination: "/topic/t11", key: (r) => r.a, version: "v1" },
  t12: {
    table: t12,
    destination: "/topic/t12",
    key: (r) => r.a,
    serializer: (r) => ({ id: r.id, at: r.k, big: r.p }),
  },
  t13: { table: t13, destination: "/topic/t13", key: (r) => r.a, fields: ["id", "f", "p"] },
  t14: { table: t14, destination: "/topic/t14", key: (r) => r.a, version: "v1" },
  t15: {
    table: t15,
    destination: "/topic/t15",
    key: (r) => r.a,
    serializer: (r) => ({ id: r.id, at: r.k, big: r.p }),
  },
  t16: { table: t16, destination: "/topic/t16", key: (r) => r.a, fields: ["id", "f", "p"] },
  t17: { table: t17, destination: "/topic/t17", key: (r) => r.a, version: "v1" },
  t18: {
    table: t18,
    destination: "/topic/t18",
    key: (r) => r.a,
    serializer: (r) => ({ id: r.id, at: r.k, big: r.p }),
  },
  t19: { table: t19, destination: "/topic/t19", key: (r) => r.a, fields: ["id", "f", "p"] },
  t20: { table: t20, destination: "/topic/t20", key: (r) => r.a, version: "v1" },
  t21: {
    table: t21,
    destination: "/topic/t21",
    key: (r) => r.a,
    serializer: (r) => ({ id: r.id, at: r.k, big: r.p }),
  },
  t22: { table: t22, destination: "/topic/t22", key: (r) => r.a, fields: ["id", "f", "p"] },
  t23: { table: t23, destination: "/topic/t23", key: (r) => r.a, version: "v1" },
  t24: {
    table: t24,
    destination: "/topic/t24",
    key: (r) => r.a,
    serializer: (r) => ({ id: r.id, at: r.k, big: r.p }),
  },
  t25: { table: t25, destination: "/topic/t25", key: (r) => r.a, fields: ["id", "f", "p"] },
  t26: { table: t26, destination: "/topic/t26", key: (r) => r.a, version: "v1" },
  t27: {
    table: t27,
    destination: "/topic/t27",
    key: (r) => r.a,
    serializer: (r) => ({ id: r.id, at: r.k, big: r.p }),
  },
  t28: { table: t28, destination: "/topic/t28", key: (r) => r.a, fields: ["id", "f", "p"] },
  t29: { table: t29, destination: "/topic/t29", key: (r) => r.a, version: "v1" },
  t30: {
    table: t30,
    destination: "/topic/t30",
    key: (r) => r.a,
    serializer: (r) => ({ id: r.id, at: r.k, big: r.p }),
  },
  t31: { table: t31, destination: "/topic/t31", key: (r) => r.a, fields: ["id", "f", "p"] },
  t32: { table: t32, destination: "/topic/t32", key: (r) => r.a, version: "v1" },
  t33: {
    table: t33,
    destination: "/topic/t33",
    key: (r) => r.a,
    serializer: (r) => ({ id: r.id, at: r.k, big: r.p }),
  },
  t34: { table: t34, destination: "/topic/t34", key: (r) => r.a, fields: ["id", "f", "p"] },
  t35: { table: t35, destination: "/topic/t35", key: (r) => r.a, version: "v1" },
  t36: {
    table: t36,
    destination: "/topic/t36",
    key: (r) => r.a,
    serializer: (r) => ({ id: r.id, at: r.k, big: r.p }),
  },
  t37: { table: t37, destination: "/topic/t37", key: (r) => r.a, fields: ["id", "f", "p"] },
  t38: { table: t38, destination: "/topic/t38", key: (r) => r.a, version: "v1" },
  t39: {
    table: t39,
    destination: "/topic/t39",
    key: (r) => r.a,
    serializer: (r) => ({ id: r.id, at: r.k, big: r.p }),
  },
  t40: { table: t40, destination: "/topic/t40", key: (r) => r.a, fields: ["id", "f", "p"] },
  t41: { table: t41, destination: "/topic/t41", key: (r) => r.a, version: "v1" },
  t42: {
    table: t42,
    destination: "/topic/t42",
    key: (r) => r.a,
    serializer: (r) => ({ id: r.id, at: r.k, big: r.p }),
  },
  t43: { table: t43, destination: "/topic/t43", key: (r) => r.a, fields: ["id", "f", "p"] },
  t44: { table: t44, destination: "/topic/t44", key: (r) => r.a, version: "v1" },
  t45: {
    table: t45,
    destination: "/topic/t45",
    key: (r) => r.a,
    serializer: (r) => ({ id: r.id, at: r.k, big: r.p }),
  },
  t46: { table: t46, destination: "/topic/t46", key: (r) => r.a, fields: ["id", "f", "p"] },
  t47: { table: t47, destination: "/topic/t47", key: (r) => r.a, version: "v1" },
  t48: {
    table: t48,
    destination: "/topic/t48",
    key: (r) => r.a,
    serializer: (r) => ({ id: r.id, at: r.k, big: r.p }),
  },
  t49: { table: t49, destination: "/topic/t49", key: (r) => r.a, fields: ["id", "f", "p"] },
  t50: { table: t50, destination: "/topic/t50", key: (r) => r.a, version: "v1" },
  t51: {
    table: t51,
    destination: "/topic/t51",
    key: (r) => r.a,
    serializer: (r) => ({ id: r.id, at: r.k, big: r.p }),
  },
  t52: { table: t52, destination: "/topic/t52", key: (r) => r.a, fields: ["id", "f", "p"] },
  t53: { table: t53, destination: "/topic/t53", key: (r) => r.a, version: "v1" },
  t54: {
    table: t54,
    destination: "/topic/t54",
    key: (r) => r.a,
    serializer: (r) => ({ id: r.id, at: r.k, big: r.p }),
  },
  t55: { table: t55, destination: "/topic/t55", key: (r) => r.a, fields: ["id", "f", "p"] },
  t56: { table: t56, destination: "/topic/t56", key: (r) => r.a, version: "v1" },
  t57: {
    table: t57,
    destination: "/topic/t57",
    key: (r) => r.a,
    serializer: (r) => ({ id: r.id, at: r.k, big: r.p }),
  },
  t58: { table: t58, destination: "/topic/t58", key: (r) => r.a, fields: ["id", "f", "p"] },
  t59: { table: t59, destination: "/topic/t59", key: (r) => r.a, version: "v1" },
})

export type Bodies = { [K in keyof typeof events]: EventBody<(typeof events)[K]> }

const db = drizzle("postgres://")
export const uses = () =>
  db.transaction(async (tx) => {
    await withOutbox(tx, t0, { a: "", f: 0 })
    await withOutbox(tx, t1, { a: "", f: 1 })
    await withOutbox(tx, t2, { a: "", f: 2 })
    await withOutbox(tx, t3, { a: "", f: 3 })
    await withOutbox(tx, t4, { a: "", f: 4 })
    await withOutbox(tx, t5, { a: "", f: 5 })
    await withOutbox(tx, t6, { a: "", f: 6 })
    await withOutbox(tx, t7, { a: "", f: 7 })
    await withOutbox(tx, t8, { a: "", f: 8 })
    await withOutbox(tx, t9, { a: "", f: 9 })
    await withOutbox(tx, t10, { a: "", f: 10 })
    await withOutbox(tx, t11, { a: "", f: 11 })
    await withOutbox(tx, t12, { a: "", f: 12 })
    await withOutbox(tx, t13, { a: "", f: 13 })
    await withOutbox(tx, t14, { a: "", f: 14 })
    await withOutbox(tx, t15, { a: "", f: 15 })
    await withOutbox(tx, t16, { a: "", f: 16 })
    await withOutbox(tx, t17, { a: "", f: 17 })
    await withOutbox(tx, t18, { a: "", f: 18 })
    await withOutbox(tx, t19, { a: "", f: 19 })
    await withOutbox(tx, t20, { a: "", f: 20 })
    await withOutbox(tx, t21, { a: "", f: 21 })
    await withOutbox(tx, t22, { a: "", f: 22 })
    await withOutbox(tx, t23, { a: "", f: 23 })
    await withOutbox(tx, t24, { a: "", f: 24 })
    await withOutbox(tx, t25, { a: "", f: 25 })
    await withOutbox(tx, t26, { a: "", f: 26 })
    await withOutbox(tx, t27, { a: "", f: 27 })
    await withOutbox(tx, t28, { a: "", f: 28 })
    await withOutbox(tx, t29, { a: "", f: 29 })
    await withOutbox(tx, t30, { a: "", f: 30 })
    await withOutbox(tx, t31, { a: "", f: 31 })
    await withOutbox(tx, t32, { a: "", f: 32 })
    await withOutbox(tx, t33, { a: "", f: 33 })
    await withOutbox(tx, t34, { a: "", f: 34 })
    await withOutbox(tx, t35, { a: "", f: 35 })
    await withOutbox(tx, t36, { a: "", f: 36 })
    await withOutbox(tx, t37, { a: "", f: 37 })
    await withOutbox(tx, t38, { a: "", f: 38 })
    await withOutbox(tx, t39, { a: "", f: 39 })
    await withOutbox(tx, t40, { a: "", f: 40 })
    await withOutbox(tx, t41, { a: "", f: 41 })
    await withOutbox(tx, t42, { a: "", f: 42 })
    await withOutbox(tx, t43, { a: "", f: 43 })
    await withOutbox(tx, t44, { a: "", f: 44 })
    await withOutbox(tx, t45, { a: "", f: 45 })
    await withOutbox(tx, t46, { a: "", f: 46 })
    await withOutbox(tx, t47, { a: "", f: 47 })
    await withOutbox(tx, t48, { a: "", f: 48 })
    await withOutbox(tx, t49, { a: "", f: 49 })
    await withOutbox(tx, t50, { a: "", f: 50 })
    await withOutbox(tx, t51, { a: "", f: 51 })
    await withOutbox(tx, t52, { a: "", f: 52 })
    await withOutbox(tx, t53, { a: "", f: 53 })
    await withOutbox(tx, t54, { a: "", f: 54 })
    await withOutbox(tx, t55, { a: "", f: 55 })
    await withOutbox(tx, t56, { a: "", f: 56 })
    await withOutbox(tx, t57, { a: "", f: 57 })
    await withOutbox(tx, t58, { a: "", f: 58 })
    await withOutbox(tx, t59, { a: "", f: 59 })
  })
