import { expect, test } from "vitest";
import { coordinatorId, epochMs } from "../farm/ids.ts";
import type { LivingCoordinator } from "../store/coordinators.ts";
import { coordinatorCheck, fingerprint } from "./shared.ts";

const row = (id: string, shared: LivingCoordinator["shared"], version = "0.1.0"): LivingCoordinator => ({
  id: coordinatorId(id),
  host: `host-of-${id}`,
  pid: 1,
  version,
  peer: null,
  startedAt: epochMs(0),
  seenAt: epochMs(0),
  machines: 0,
  builds: 0,
  shared,
});

test("coordinatorCheck() is silent while all agree, and names who has another secret or configuration", () => {
  const alike = { "master key": "1", "operator token": "2", "CA certificate": "3", configuration: "4" };
  expect([
    coordinatorCheck([]).lines,
    coordinatorCheck([row("Pa", alike), row("Pb", alike), row("Pc", null)]).lines, // the last one is of an older program
    coordinatorCheck([row("Pa", alike), row("Pb", { ...alike, "master key": "9" }), row("Pc", alike)]).lines,
    coordinatorCheck([row("Pa", alike), row("Pb", { ...alike, configuration: "9" }, "0.2.0")]).lines,
  ]).toEqual([
    [],
    [],
    [
      {
        level: "error",
        text: "The master key of Pa on host-of-Pa, Pc on host-of-Pc differs from that of Pb on host-of-Pb: a machine that one of them lets in is refused by another; give all the same -secrets folder or -masterkey",
      },
    ],
    [
      {
        level: "warn",
        text: "The configuration of Pa on host-of-Pa differs from that of Pb on host-of-Pb: each plans builds by its own; give all the same configuration file, and SIGHUP to those that do not watch it",
      },
      { level: "info", text: "Versions 0.1.0 and 0.2.0 run beside each other: upgrade the rest" },
    ],
  ]);
});

test("fingerprint() tells contents apart and shows none of them", () => {
  const made = [fingerprint("master key", "gophers rule"), fingerprint("operator token", "gophers rule")];
  expect(made).toEqual([expect.stringMatching(/^[0-9a-f]{16}$/), expect.stringMatching(/^[0-9a-f]{16}$/)]);
  expect(new Set([...made, fingerprint("master key", "gophers rule!")]).size).toBe(3);
  expect(fingerprint("master key", "gophers rule")).toBe(made[0]);
});
