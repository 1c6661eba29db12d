import { expect, test } from "vitest";
import { epochMs, minutes, ms, plus } from "../farm/ids.ts";
import { GRACE, machineChecks } from "./health.ts";

const startedAt = epochMs(Date.UTC(2026, 10, 23, 12));
const seen = { open: 1, lastSeenAt: startedAt, drained: false };
const gone = { ...seen, open: 0 };
const host = (
  expect: number,
  ...machines: { name: string; open: number; lastSeenAt: typeof startedAt; drained: boolean }[]
) => ({
  hostType: "host-linux-riscv64-lent",
  expect,
  drained: false,
  machines,
});
const lines = (hosts: ReturnType<typeof host>[], after = minutes(10)) =>
  machineChecks({ hosts, flapping: [], startedAt, now: plus(startedAt, after) }).flatMap((check) => check.lines);

test("nothing is said of a farm whose machines are all there", () => {
  expect(lines([host(1, { name: "river", ...seen }), host(0)])).toEqual([]);
});

test("a missing machine is a note right after the start, then a warning, and an error when many are missing", () => {
  const many = Array.from({ length: 9 }, (_, n) => ({ name: `m${n}`, ...seen }));
  const some = [host(10, ...many, { name: "pine", ...gone })];
  const text = "host-linux-riscv64-lent: 9 of 10 connected, 1 missing: pine (last seen 2026-11-23 12:00 UTC)";
  expect([lines(some, ms(GRACE - 1)), lines(some, GRACE), lines([host(2, { name: "a", ...seen })])]).toEqual([
    [{ level: "info", text }],
    [{ level: "warn", text }],
    [{ level: "error", text: "host-linux-riscv64-lent: 1 of 2 connected, 1 missing" }],
  ]);
});

test("nobody is missing of a host type that is drained, nor a machine that is drained and away", () => {
  expect(lines([{ ...host(2, { name: "river", ...seen }), drained: true }])).toEqual([]);
  expect(lines([host(2, { name: "river", ...seen }, { name: "pine", ...gone, drained: true })])).toEqual([]);
});

test("one name connected twice is an error, a machine that comes and goes a warning", () => {
  const facts = { startedAt, now: startedAt, hosts: [host(0, { name: "twin", ...seen, open: 2 })] };
  const flapping = [{ hostType: "host-linux-riscv64-lent", name: "shaky", sessions: 5 }];
  expect(
    machineChecks({ ...facts, flapping }).flatMap((check) => check.lines.map((line) => `${line.level} ${line.text}`)),
  ).toEqual([
    "error host-linux-riscv64-lent: twin is connected 2 times; give each machine a name of its own (-hostname)",
    "warn host-linux-riscv64-lent: shaky connected 5 times within 10 minutes; its log says why it ends",
  ]);
});
