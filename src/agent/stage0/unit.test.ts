import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { printUnit, UNIT_KINDS } from "./unit.ts";

const AWKWARD = `a b'c"d$e%f\\g<&>`;
const UNIT = {
  command: ["/opt/node", "/opt/stage0.mjs", "-coordinator=farm.test:8119", `-hostname=${AWKWARD}`],
  dir: "/var/lib/buildlet",
  user: "builder",
  env: [["GO_BUILD_KEY_PATH", "/etc/farm key"]],
} as const;

test("systemd units quote words, and keep % and $ from being expanded", () => {
  expect(
    printUnit("systemd", UNIT)
      .split("\n")
      .filter((line) => /^(Exec|Env|User|Working|Restart)/.test(line)),
  ).toEqual([
    "User=builder",
    "WorkingDirectory=/var/lib/buildlet",
    'Environment="GO_BUILD_KEY_PATH=/etc/farm key"',
    `ExecStart="/opt/node" "/opt/stage0.mjs" "-coordinator=farm.test:8119" "-hostname=a b'c\\"d$$e%%f\\\\g<&>"`,
    "Restart=always",
    "RestartSec=10",
  ]);
});

test("the owner's page names the unit as it is printed", () => {
  const page = readFileSync(new URL("../../../docs/lend-a-machine.md", import.meta.url), "utf8");
  const [, path = "", then = ""] = /^# (\S+)\n# Then: .*&& (.*)\n/.exec(printUnit("systemd", UNIT)) ?? [];
  expect([path, then]).toEqual(["/etc/systemd/system/buildlet.service", "systemctl enable --now buildlet"]);
  expect(page).toContain(`sudo tee ${path} `);
  expect(page).toContain(`sudo ${then}\n`);
});

test("launchd units are well-formed XML", () => {
  const plist = printUnit("launchd", UNIT);
  expect(plist).toContain(`<string>-hostname=a b'c"d$e%f\\g&lt;&amp;&gt;</string>`);
  expect(plist.match(/<(key|string|array|dict|plist|integer)[ >]/g)?.length).toBe(
    plist.match(/<\/(key|string|array|dict|plist|integer)>/g)?.length,
  );
});

test("shell units are read by a shell as they were meant", () => {
  const dir = mkdtempSync(join(tmpdir(), "unit-"));
  for (const kind of ["openrc", "rc.d"] as const) {
    const path = join(dir, kind);
    writeFileSync(path, printUnit(kind, UNIT));
    expect([kind, spawnSync("sh", ["-n", path]).stderr.toString()]).toEqual([kind, ""]);
  }
  const args = readFileSync(join(dir, "openrc"), "utf8")
    .split("\n")
    .filter((line) => /^command/.test(line))
    .join("\n");
  const shown = spawnSync("sh", [
    "-c",
    `${args}\neval "set -- $command_args"; printf '%s\\n' "$command" "$@"`,
  ]).stdout.toString();
  expect(shown.split("\n").slice(0, 4)).toEqual([...UNIT.command]);
  rmSync(dir, { recursive: true });
});

test("every kind names the command's parts and the key's file", () => {
  for (const kind of UNIT_KINDS) {
    const unit = printUnit(kind, UNIT);
    for (const part of [
      "/opt/node",
      "/opt/stage0.mjs",
      "farm.test:8119",
      "/etc/farm key",
      "builder",
      "/var/lib/buildlet",
    ]) {
      expect([kind, part, unit.includes(part)]).toEqual([kind, part, true]);
    }
  }
});
