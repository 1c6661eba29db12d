import { expect, test } from "vitest";
import { type Bench, chosenBy } from "./bench.ts";
import { gomote } from "./gomote.ts";
import { push } from "./push.ts";
import { shells } from "./shells.ts";
import { transfer } from "./transfer.ts";

test("chosenBy() takes with a bench those that belong to it, one alone by its own name, and all without names", () => {
  const benches: readonly Bench[] = [gomote, shells, push, transfer];
  const chosen = (...names: string[]) => chosenBy(names, benches).map(({ name }) => name);
  expect(chosen("gomote")).toEqual(["gomote", "shells", "push"]);
  expect(chosen("push")).toEqual(["push"]);
  expect(chosen("transfer", "shells")).toEqual(["shells", "transfer"]);
  expect(chosen()).toEqual(["gomote", "shells", "push", "transfer"]);
});
