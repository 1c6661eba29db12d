import { expect, test } from "vitest";
import { builderKey, DEV_MASTER_KEY, KEY_LENGTH } from "./builder-key.ts";

test("[coordinator 6] builderKey() derives the known key of the development master key", () => {
  expect(builderKey(DEV_MASTER_KEY, "host-linux-amd64-localdev")).toBe("4d8129e2963df29b29cab65e108397d1");
});

test("builderKey() ignores white space around the master key, not around the principal", () => {
  const plain = builderKey("secret", "host-a");
  expect([builderKey(" secret\n", "host-a"), plain.length]).toEqual([plain, KEY_LENGTH]);
  expect(builderKey("secret", "host-a ")).not.toBe(plain);
});
