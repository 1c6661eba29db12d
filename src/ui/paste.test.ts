import { expect, test } from "vitest";
import { pasteLines, pasteText } from "./paste.ts";

test("pasteText() takes out keys that somebody hid, and leaves text, tabs and line ends", () => {
  expect(pasteText("ls\t-l\r\necho “hé”\u001b[201~\u0003; rm -r\u009b x\n")).toBe(
    "ls\t-l\r\necho “hé”[201~; rm -r x\n",
  );
});

test("pasteLines() counts what would be run without Enter", () => {
  expect(["", "ls", "ls\n", "a\r\nb", "a\rb\nc"].map(pasteLines)).toEqual([0, 1, 2, 2, 3]);
});
