import { expect, test } from "vitest";
import { epochMs, minutes, ms, plus } from "../farm/ids.ts";
import type { Expected } from "../store/troubles.ts";
import { GRACE, machineChecks } from "./health.ts";

const startedAt = epochMs(Date.UTC(2026, 10, 23, 12));
const host = (expect: number, connected: number, ...away: string[]): Expected => ({
  hostType: "host-linux-riscv64-lent",
  expect,
  connected,
  away: away.map((name, id) => ({ id, name, since: startedAt, reason: null })),
});
const lines = (hosts: Expected[], after = minutes(10)) =>
  machineChecks({ hosts, twice: [], flapping: [], startedAt, now: plus(startedAt, after) }).flatMap(
    (check) => check.lines,
  );

test("nothing is said of a farm whose machines are all there", () => {
  expect(lines([host(1, 1), host(0, 1)])).toEqual([]);
});

test("a missing machine is a note right after the start, then a warning, and an error when many are missing", () => {
  const some = [host(10, 9, "pine")];
  const text = "host-linux-riscv64-lent: 9 of 10 connected, 1 missing: pine (last seen 2026-11-23 12:00 UTC)";
  expect([lines(some, ms(GRACE - 1)), lines(some, GRACE), lines([host(2, 1)])]).toEqual([
    [{ level: "info", text }],
    [{ level: "warn", text }],
    [{ level: "error", text: "host-linux-riscv64-lent: 1 of 2 connected, 1 missing" }],
  ]);
});

test("one name connected twice is an error, a machine that comes and goes a warning", () => {
  const twice = [{ hostType: "host-linux-riscv64-lent", name: "twin", sessions: 2 }];
  const flapping = [{ hostType: "host-linux-riscv64-lent", name: "shaky", sessions: 5 }];
  expect(
    machineChecks({ hosts: [], twice, flapping, startedAt, now: startedAt }).flatMap((check) =>
      check.lines.map((line) => `${line.level} ${line.text}`),
    ),
  ).toEqual([
    "error host-linux-riscv64-lent: twin is connected 2 times; give each machine a name of its own (-hostname)",
    "warn host-linux-riscv64-lent: shaky connected 5 times within 10 minutes; its log says why it ends",
  ]);
});
