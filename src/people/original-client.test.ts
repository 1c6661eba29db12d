import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { originalClientSetup } from "./original-client.ts";

const client = { person: { name: "alice" }, token: "brt_secret", httpPort: 8118, tlsPort: 8119, host: "farm.test" };

/** What stock ssh makes of the lines for ~/.ssh/config, when the original command begins a shell. */
function dialled(setup: string): Record<string, string> {
  const folder = mkdtempSync(join(tmpdir(), "original-client-"));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  const file = join(folder, "config");
  const from = setup.indexOf("# Host ");
  writeFileSync(file, setup.slice(from).replace(/^# /gm, ""));
  const told = execFileSync("ssh", ["-G", "-F", file, "-p", "2222", "alice-linux-amd64-0@gomotessh.golang.org"]);
  return Object.fromEntries(
    told
      .toString()
      .split("\n")
      .map((line) => [line.split(" ", 1)[0], line.slice(line.indexOf(" ") + 1)]),
  );
}

test("shells of the original command come to this farm's gateway, whatever its port", () => {
  expect(dialled(originalClientSetup({ ...client, sshPort: 2222 }))).toMatchObject({
    user: "alice-linux-amd64-0",
    hostname: "localhost",
    port: "2222",
    hostkeyalias: "barnraiser",
  });
  expect(dialled(originalClientSetup({ ...client, sshPort: 8122 }))).toMatchObject({
    proxycommand: "nc localhost 8122",
    hostkeyalias: "barnraiser",
  });
});

test("the tunnel has all ports that there are, and a farm without shells says so", () => {
  expect(originalClientSetup({ ...client, sshPort: 2222 })).toContain(
    "# ssh -N -L 8119:localhost:8119 -L 8118:localhost:8118 -L 2222:localhost:2222 farm.test\n",
  );
  const without = originalClientSetup({ ...client, sshPort: undefined });
  expect(without).toContain("# ssh -N -L 8119:localhost:8119 -L 8118:localhost:8118 farm.test\n");
  expect(without).toContain("# This farm has no ssh gateway");
});
