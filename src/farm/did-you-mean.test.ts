import { expect, test } from "vitest";
import { didYouMean } from "./did-you-mean.ts";

test("didYouMean() offers the name that is a slip or two away, whatever its case, and nothing further off", () => {
  const known = ["riverboard", "host-linux-amd64", "all"];
  expect(
    ["riverbord", "RiverBoadr", "host-linux-amd46", "al", "mill", ""].map((given) => didYouMean(given, known)),
  ).toEqual([
    '; did you mean "riverboard"?',
    '; did you mean "riverboard"?',
    '; did you mean "host-linux-amd64"?',
    '; did you mean "all"?',
    "",
    "",
  ]);
});
