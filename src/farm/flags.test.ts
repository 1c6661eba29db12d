import { expect, test } from "vitest";
import {
  bool,
  choice,
  count,
  duration,
  formatDuration,
  parseBool,
  parseDuration,
  parseFlags,
  text,
  texts,
} from "./flags.ts";
import { ms, seconds } from "./ids.ts";

const FLAGS = {
  halt: bool(true, "power off at the end"),
  coordinator: text("localhost:8119", "address of the coordinator"),
  run: texts("command of a step"),
  wait: duration(seconds(30), "how long to wait"),
  keep: count(0, "how many to keep"),
  mode: choice(["dev", "prod"], "prod", "which rules hold"),
};

function parse(...argv: string[]) {
  const parsed = parseFlags("usage: try [flags]", FLAGS, argv);
  if (parsed.kind === "stop") throw new Error(parsed.text);
  return parsed;
}

function refuse(...argv: string[]): string | undefined {
  const parsed = parseFlags("usage: try [flags]", FLAGS, argv);
  return parsed.kind === "stop" ? `${parsed.exitCode} ${parsed.text}` : undefined;
}

test("parseFlags() reads one and two dashes, with and without =", () => {
  const want = { halt: false, coordinator: "a:1", run: ["x", "y=z"], wait: 90_000, keep: 3, mode: "dev" };
  const first = parse(
    "-halt=false",
    "-coordinator",
    "a:1",
    "-run",
    "x",
    "-run=y=z",
    "-wait",
    "1m30s",
    "-keep=3",
    "-mode=dev",
  );
  const second = parse(
    "--halt=0",
    "--coordinator=a:1",
    "--run=x",
    "--run",
    "y=z",
    "--wait=90s",
    "--keep",
    "3",
    "--mode",
    "dev",
  );
  expect([first.values, second.values]).toEqual([want, want]);
});

test("parseFlags() ends at the first argument and at --, and knows what was given", () => {
  const parsed = parse("-halt", "false", "-keep=1");
  expect([parsed.values.halt, parsed.args, [...parsed.given]]).toEqual([true, ["false", "-keep=1"], ["halt"]]);
  expect(parse("-keep=1", "--", "-halt=false").args).toEqual(["-halt=false"]);
  expect(parse("-").args).toEqual(["-"]);
});

test("parseFlags() refuses with exit 2, says what is wrong, and does not bury it under the list", () => {
  expect([
    refuse("-nope"),
    refuse("--hatl"),
    refuse("-coordinator"),
    refuse("-halt=maybe"),
    refuse("-wait=30"),
    refuse("-mode=test"),
    refuse("---x"),
    refuse("-=x"),
    refuse("-toString"),
  ]).toEqual(
    [
      "2 flag provided but not defined: -nope",
      '2 flag provided but not defined: -hatl; did you mean "-halt"?',
      "2 flag needs an argument: -coordinator",
      '2 invalid value "maybe" for flag -halt: want true or false',
      '2 invalid value "30" for flag -wait: want duration',
      '2 invalid value "test" for flag -mode: want dev|prod',
      "2 bad flag syntax: ---x",
      "2 bad flag syntax: -=x",
      "2 flag provided but not defined: -toString",
    ].map((said) => `${said}\nTry -help.\n`),
  );
});

test("parseFlags() lists every flag for -help and -h, exit 0", () => {
  const parsed = parseFlags("usage: try [flags]", FLAGS, ["-help"]);
  expect(parsed).toEqual({
    kind: "stop",
    exitCode: 0,
    text: [
      "usage: try [flags]",
      "  -coordinator string",
      '    \taddress of the coordinator (default "localhost:8119")',
      "  -halt",
      "    \tpower off at the end (default true)",
      "  -keep number",
      "    \thow many to keep",
      "  -mode dev|prod",
      '    \twhich rules hold (default "prod")',
      "  -run string, repeatable",
      "    \tcommand of a step",
      "  -wait duration",
      "    \thow long to wait (default 30s)",
      "",
    ].join("\n"),
  });
  expect(parseFlags("usage: try [flags]", FLAGS, ["-h"])).toEqual(parsed);
});

test("parseBool() knows Go's twelve words only", () => {
  expect(["1", "t", "TRUE", "0", "False", "yes", "", "tRUE"].map(parseBool)).toEqual([
    true, true, true, false, false, undefined, undefined, undefined,
  ]); // biome-ignore format: a row
});

test("parseDuration() and formatDuration() write Go's spans", () => {
  expect(["30s", "1h15m", "1.5s", "250ms", "-2s", "0", "30", "", "1x", ".5s"].map(parseDuration)).toEqual([
    30_000, 4_500_000, 1500, 250, -2000, 0, undefined, undefined, undefined, 500,
  ]); // biome-ignore format: a row
  expect([0, 250, 1500, 90_000, 4_500_000, -2000].map((span) => formatDuration(ms(span)))).toEqual([
    "0s", "250ms", "1.5s", "1m30s", "1h15m0s", "-2s",
  ]); // biome-ignore format: a row
});
