import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { type KeyInput, readKey } from "./key.ts";

let home = "";
beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), "key-test-"));
});
afterEach(() => rm(home, { recursive: true }));

function key(input: Partial<KeyInput> = {}): string {
  const common = {
    hostType: "host-x",
    platform: "linux",
    uid: 1000,
    allowDevKey: false,
    allowFile: true,
    allowPlainFile: true,
  } as const;
  return readKey({ ...common, env: { HOME: home }, ...input });
}

test("[coordinator 51] a key file is trimmed, and removed after reading when that is asked for", async () => {
  const path = join(home, "given");
  await writeFile(path, "  abc123\r\n\n");
  expect(key({ env: { GO_BUILD_KEY_PATH: path } })).toBe("abc123");
  expect(await readFile(path, "utf8")).toContain("abc123");
  expect(key({ env: { GO_BUILD_KEY_PATH: path, GO_BUILD_KEY_DELETE_AFTER_READ: "1" } })).toBe("abc123");
  await expect(readFile(path)).rejects.toThrow("ENOENT");
});

test("readKey() prefers the file of the host type, then the plain one, then on loopback the development key", async () => {
  expect(() => key()).toThrow(
    `Cannot find a builder key: put it into ${home}/.gobuildkey-host-x, or name its file in GO_BUILD_KEY_PATH`,
  );
  expect(key({ allowDevKey: true, hostType: "host-linux-amd64-localdev" })).toBe("4d8129e2963df29b29cab65e108397d1");
  await writeFile(join(home, ".gobuildkey"), "plain\n");
  expect([key(), key({ allowDevKey: true })]).toEqual(["plain", "plain"]);
  expect(() => key({ allowPlainFile: false })).toThrow("Cannot find a builder key");
  await writeFile(join(home, ".gobuildkey-host-x"), "typed\n");
  expect(key()).toBe("typed");
});

test("[coordinator 14] readKey() for a private name in compatible mode shows the development key whatever is set", async () => {
  await writeFile(join(home, ".gobuildkey-host-linux-amd64-localdev"), "typed\n");
  const input = { allowFile: false, allowDevKey: true, hostType: "host-linux-amd64-localdev" };
  expect(key({ ...input, env: { HOME: home, GO_BUILD_KEY_PATH: "/nowhere" } })).toBe(
    "4d8129e2963df29b29cab65e108397d1",
  );
});

test("readKey() says what is wrong with a file and never what is in it", async () => {
  const path = join(home, "given");
  const env = { GO_BUILD_KEY_PATH: path };
  expect(() => key({ env, allowDevKey: true })).toThrow(`Cannot read the key file "${path}": ENOENT`);
  await writeFile(path, "\n");
  expect(() => key({ env })).toThrow("it is empty");
  await writeFile(path, "two\nsecrets");
  expect(() => key({ env })).toThrow(/: want one word$/);
});
