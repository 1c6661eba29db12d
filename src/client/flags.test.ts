/** The flags of each command: those that the original has, by name, kind and default, and ours beside them. */
import { expect, test } from "vitest";
import { FakeFarm } from "./testing/fake-farm.ts";
import { TestComputer } from "./testing/typed.ts";

/** A default is as -help shows it: `""` where there is none to show; a boolean's takes nothing after it. */
interface Shown {
  readonly [name: string]: boolean | number | string;
}

const ORIGINAL: { readonly [command: string]: Shown } = {
  create: { list: false, status: true, count: 1, setup: false, "new-group": "", "use-golangbuild": true },
  destroy: { "destroy-group": false },
  gettar: { dir: "" },
  group: {},
  list: {},
  login: {},
  ls: { R: false, d: false, skip: "" },
  ping: {},
  push: { "dry-run": false },
  put: { mode: "" },
  puttar: { dir: "" },
  repro: { status: true, count: 1, "new-group": "", public: true },
  rdp: {},
  rm: {},
  run: { system: false, debug: false, firewall: false, collect: false, e: "", path: "", dir: "", builderenv: "", until: "" },
  ssh: {},
}; // biome-ignore format: one row each

/** What the original does not have, or has with another default. */
const OURS: { readonly [command: string]: Shown } = {
  gettar: { dir: "." },
  login: { token: false },
  ping: { strict: false },
  ps: { a: false },
  kill: {},
  push: { from: "", dir: "" },
  repro: { hold: false },
  ssh: { config: false, gateway: "" },
};

test("each command has the flags of the original, with the same defaults, and those of ours that are written here", async () => {
  await using farm = await FakeFarm.start();
  await using computer = await TestComputer.start(farm);
  const shown: { [command: string]: Shown } = {};
  const { stderr } = await computer.gomote(["help"]);
  for (const [, name = ""] of stderr.matchAll(/^ {2}([a-z]+) /gm)) {
    const help = await computer.gomote([name, "-help"]);
    expect(help.status).toBe(0);
    shown[name] = flagsIn(help.stderr);
  }
  const wanted = [...new Set([...Object.keys(ORIGINAL), ...Object.keys(OURS)])].sort();
  expect(shown).toEqual(Object.fromEntries(wanted.map((name) => [name, { ...ORIGINAL[name], ...OURS[name] }])));
});

/** Of a list as -help shows it: `  -NAME [WORD]`, and below it the sentence with the default. */
function flagsIn(help: string): Shown {
  const flags = [...help.matchAll(/^ {2}-(\S+)( \S+)?\n {4}\t(.*)$/gm)];
  return Object.fromEntries(
    flags.map(([, name = "", takes, sentence = ""]) => {
      const [, initial] = / \(default ("[^"]*"|true|\d+)\)$/.exec(sentence) ?? [];
      return [name, initial === undefined ? (takes === undefined ? false : "") : JSON.parse(initial)];
    }),
  );
}
