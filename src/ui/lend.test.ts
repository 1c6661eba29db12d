import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { keyCommand, lendCommands } from "./lend.tsx";

test("an empty farm prints the commands of the owner's page, word for word", () => {
  const page = readFileSync(new URL("../../docs/lend-a-machine.md", import.meta.url), "utf8").split("\n");
  const type = "host-linux-amd64-lent";
  for (const line of [...lendCommands("farm.example.org:8119", type, "riverboard"), keyCommand(type, "riverboard")])
    expect(page).toContain(line);
});
