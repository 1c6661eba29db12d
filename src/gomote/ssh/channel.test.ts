import { expect, test } from "vitest";
import { hold } from "./channel.ts";

test("what is read goes on only once neither output nor errors are full", () => {
  const full = [false, false].map((writableNeedDrain) => ({
    writableNeedDrain,
    drain: () => {},
    once(_: "drain", go: () => void) {
      this.drain = go;
    },
  }));
  const [output, errors] = full as [(typeof full)[0], (typeof full)[0]];
  const heard: string[] = [];
  const held = hold({ pause: () => heard.push("pause"), resume: () => heard.push("resume") }, full);
  held();
  expect(heard).toEqual([]);
  output.writableNeedDrain = true;
  errors.writableNeedDrain = true;
  held();
  held();
  output.writableNeedDrain = false;
  output.drain();
  expect(heard).not.toContain("resume");
  errors.writableNeedDrain = false;
  errors.drain();
  expect(heard.at(-1)).toBe("resume");
});
