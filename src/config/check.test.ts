import { expect, test } from "vitest";
import { messageOf } from "../farm/errors.ts";
import { checkFarm } from "./check.ts";
import { effectiveFarm } from "./effective-farm.ts";
import { defineFarm, script } from "./farm-config.ts";
import { ConfigError, mistakeLine } from "./mistakes.ts";
import { openPolicy } from "./policy.ts";

const DAY = 86_400_000;
const repo = { name: "app", url: "." };
const host = { hostType: "host-linux-amd64-x" };
const builder = { name: "linux-amd64", host: "host-linux-amd64-x", steps: ["make"] };
const WITHOUT_TESTS = {
  tests: null, snapshot: null, skipSnapshot: false, stopAfterMake: false, compileOnly: false, helpers: 0, tryHelpers: 0,
}; // biome-ignore format: one glance
const small = { repos: [repo], hosts: [host], builders: [builder] };

/** The mistakes of `input`, a line each. */
function mistakes(input: unknown): string[] {
  try {
    checkFarm(input);
    return [];
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return error.mistakes.map(mistakeLine);
  }
}

test("checkFarm() fills in every default", () => {
  expect(checkFarm(defineFarm(small))).toEqual({
    policy: openPolicy,
    publicUrl: null,
    login: null,
    notify: { operators: [], mail: null },
    gomote: { perPerson: 20, idleMs: 1_800_000, longestMs: 604_800_000, waitMs: 14_400_000, fetch: "nothing", fetchPorts: [80, 443], transferLimitBytes: 10 * 1024 ** 3 },
    retention: {
      greenLogsMs: 30 * DAY, logsMs: 90 * DAY, buildsMs: 365 * DAY, gomotesMs: 180 * DAY, sessionsMs: 180 * DAY, auditMs: 730 * DAY, noticesMs: 30 * DAY,
    },
    repos: [
      { name: "app", url: ".", branches: ["HEAD"], releaseBranches: ["release-branch*", "release/*"], pollMs: 15_000, depth: 10, history: 100, webhook: null, token: null, tokenUser: "x-access-token" },
    ],
    hosts: [
      {
        hostType: "host-linux-amd64-x", hostArch: "linux-amd64", expect: 0, missingAfterMs: 900_000, reconnectMs: 300_000, env: [], owners: [], notes: "",
        pool: "reverse", trust: "community", sharedKey: true, hermetic: false, gomote: "nobody", gomoteMost: null, lend: { gomote: false },
      },
    ],
    builders: [
      {
        name: "linux-amd64", host: "host-linux-amd64-x", goos: "linux", goarch: "amd64", repos: null, branches: null, builds: null,
        steps: [{ name: "make", command: ["sh", "-ec", "make"], dir: "", env: [], path: [], timeLimitMs: 3_600_000 }],
        env: [], knownIssues: [], notes: "", superseded: "every", tryOnly: false, ...WITHOUT_TESTS,
      },
    ],
  }); // biome-ignore format: one glance
});

test("checkFarm() takes every field as written", () => {
  const farm = checkFarm({
    repos: [{ name: "a.b", url: "https://example.org/a", branches: "main", releaseBranches: "go1.*", poll: "1m", depth: 200, webhook: { env: "HOOK" }, token: { file: "t" }, tokenUser: "bot" }],
    hosts: [
      {
        hostType: "mac", hostArch: "darwin-arm64", expect: 2, env: { A: "1" }, owners: [{ name: "Zoë", contact: "z@example.org" }],
        notes: "two\nlines", trust: "team", sharedKey: false, hermetic: true, gomote: "team", gomoteMost: 3, lend: { gomote: false },
      },
      { hostType: "host-windows-amd64-w", pool: "local" },
    ],
    builders: [
      {
        name: "darwin-arm64-race", host: "mac", repos: "a.*", branches: ["**", "!wip/**"], env: ["B=2", "B=3"], timeLimit: "10m", superseded: "batch",
        knownIssues: [7, "https://example.org/8"], notes: "n",
        steps: [
          ...script("npm ci"),
          { name: "t", command: ["./t", "-v"], dir: "sub", env: { C: "" }, path: ["$WORKDIR/bin", "$PATH"], timeLimit: "90s" },
        ],
      },
      { name: "windows-amd64", host: "host-windows-amd64-w", steps: ["build.bat"], skipSnapshot: true, tryOnly: true },
    ],
  }); // biome-ignore format: one glance
  expect([farm.repos[0], farm.hosts, farm.builders]).toEqual([
    {
      name: "a.b", url: "https://example.org/a", branches: ["main"], releaseBranches: ["go1.*"], pollMs: 60_000, depth: 200, history: 200,
      webhook: { env: "HOOK" }, token: { file: "t" }, tokenUser: "bot",
    },
    [
      {
        hostType: "mac", hostArch: "darwin-arm64", expect: 2, missingAfterMs: 900_000, reconnectMs: 300_000, env: ["A=1"],
        owners: [{ name: "Zoë", contact: "z@example.org", notify: [{ kind: "mail", address: "z@example.org" }] }],
        notes: "two\nlines", pool: "reverse", trust: "team", sharedKey: false, hermetic: true, gomote: "team", gomoteMost: 3,
        lend: { gomote: false },
      },
      {
        hostType: "host-windows-amd64-w", hostArch: "windows-amd64", expect: 0, missingAfterMs: 900_000, reconnectMs: 300_000, env: [], owners: [], notes: "",
        pool: "local", trust: "team", sharedKey: true, hermetic: false, gomote: "members", gomoteMost: null, lend: { gomote: true },
      },
    ],
    [
      {
        name: "darwin-arm64-race", host: "mac", goos: "darwin", goarch: "arm64", repos: ["a.*"], branches: ["**", "!wip/**"], builds: null,
        steps: [
          { name: "npm ci", command: ["sh", "-ec", "npm ci"], dir: "", env: [], path: [], timeLimitMs: 600_000 },
          { name: "t", command: ["./t", "-v"], dir: "sub", env: ["C="], path: ["$WORKDIR/bin", "$PATH"], timeLimitMs: 90_000 },
        ],
        env: ["B=2", "B=3"], knownIssues: [7, "https://example.org/8"], notes: "n", superseded: "batch", tryOnly: false, ...WITHOUT_TESTS,
      },
      {
        name: "windows-amd64", host: "host-windows-amd64-w", goos: "windows", goarch: "amd64", repos: null, branches: null, builds: null,
        steps: [{ name: "build.bat", command: ["cmd", "/c", "build.bat"], dir: "", env: [], path: [], timeLimitMs: 3_600_000 }],
        env: [], knownIssues: [], notes: "", superseded: "every", tryOnly: true, ...WITHOUT_TESTS, skipSnapshot: true,
      },
    ],
  ]); // biome-ignore format: one glance
});

test("[coordinator 56] skipSnapshot with helpers, duplicate names, unknown host types and zero known issues are refused, all at once", () => {
  expect(
    mistakes({
      repos: [repo, { name: "APP", url: "/b" }],
      hosts: [host, { hostType: "host-linux-amd64-y" }, host],
      builders: [
        builder,
        { ...builder, skipSnapshot: true, helpers: 3 },
        { ...builder, name: "b", host: "host-linux-amd46-x", knownIssues: [1, 0] },
      ],
    }),
  ).toEqual([
    "builders[2].knownIssues[1]: 0: want the number of an issue, from 1, or its http(s) address",
    'repos[1].name: "APP": is already the name of repos[0]',
    'hosts[2].hostType: "host-linux-amd64-x": is already the hostType of hosts[0]',
    'builders[1].name: "linux-amd64": is already the name of builders[0]',
    "builders[1].helpers: 3: want 0 together with skipSnapshot: helpers start from the snapshot",
    'builders[2].host: "host-linux-amd46-x": no such hostType in hosts; did you mean "host-linux-amd64-x"?',
  ]);
});

const STEP = { dir: "", env: [], path: [], timeLimitMs: 3_600_000 };

test("checkFarm() fills in what the tests of a builder leave out", () => {
  const farm = checkFarm({ ...small, builders: [{ ...builder, tests: { list: "./list", run: "./run" } }] });
  expect(farm.builders[0]).toMatchObject({
    tests: {
      list: { command: { ...STEP, name: "./list", command: ["sh", "-ec", "./list"] } },
      run: { ...STEP, name: "./run", command: ["sh", "-ec", './run "$@"', "sh"], timeLimitMs: 1_200_000 },
      names: "args", results: "exit", groupTargetMs: 10_000, unknownMs: 3_000, keepGoing: true,
    },
    snapshot: { exclude: [], limitBytes: 2 * 1024 ** 3, keepMs: 7 * 86_400_000 },
    skipSnapshot: false, stopAfterMake: false, compileOnly: false, helpers: 0, tryHelpers: 0,
  });
}); // biome-ignore format: one glance

test("checkFarm() takes every field of tests and snapshots as written", () => {
  const farm = checkFarm({
    ...small,
    builders: [
      {
        ...builder, helpers: 3, tryHelpers: 5, stopAfterMake: true, compileOnly: true,
        tests: {
          list: ["a b", "-c", "tëst"], run: { command: ["./run", "--"], timeLimit: "5m", dir: "sub" }, names: "file",
          results: { junit: "out/**/*.xml" }, groupTarget: "30s", unknown: "500ms", keepGoing: false,
        },
        snapshot: { exclude: "*.o", limit: "1.5GiB", keep: "24h" },
      },
      { ...builder, name: "once", skipSnapshot: true, tests: { list: { command: "l", timeLimit: "1m" }, run: 'for t; do ./t "$1"; done', results: "markers" } },
    ],
  });
  expect(farm.builders).toMatchObject([
    {
      helpers: 3, tryHelpers: 5, stopAfterMake: true, compileOnly: true,
      tests: {
        list: { names: ["a b", "-c", "tëst"] }, run: { command: ["./run", "--"], dir: "sub", timeLimitMs: 300_000 }, names: "file",
        results: { junit: "out/**/*.xml" }, groupTargetMs: 30_000, unknownMs: 500, keepGoing: false,
      },
      snapshot: { exclude: ["*.o"], limitBytes: 1.5 * 1024 ** 3, keepMs: 86_400_000 },
    },
    {
      tests: { list: { command: { timeLimitMs: 60_000 } }, run: { command: ["sh", "-ec", 'for t; do ./t "$1"; done', "sh"] }, results: "markers" },
      snapshot: null,
      helpers: 0,
      tryHelpers: 0,
    },
  ]);
}); // biome-ignore format: one glance

test("checkFarm() hands names to the shell of each platform", () => {
  const hosts = ["windows-amd64", "plan9-386"].map((arch) => ({ hostType: `host-${arch}` }));
  const builders = hosts.map(({ hostType }) => ({
    name: hostType.slice(5),
    host: hostType,
    steps: ["x"],
    tests: { list: ["a"], run: "t" },
  }));
  const farm = checkFarm({ ...small, hosts, builders });
  expect(farm.builders.map((each) => each.tests?.run.command)).toEqual([
    ["cmd", "/c", "t"],
    ["rc", "-ec", "t $*"],
  ]);
});

test("[coordinator 57] the hostArch of host-linux-arm-x is linux-arm-7", () => {
  const types = ["host-linux-arm-x", "host-linux-arm64-x", "host-plan9-386"];
  const farm = checkFarm({ repos: [], hosts: types.map((hostType) => ({ hostType })), builders: [] });
  expect(farm.hosts.map((h) => h.hostArch)).toEqual(["linux-arm-7", "linux-arm64", "plan9-386"]);
});

test.each<readonly [string, unknown, readonly string[]]>([
  ["nothing", undefined, ["farm: missing: want { repos, hosts, builders }"]],
  ["an empty farm's lists", {}, [
    "repos: missing: want a list of repositories",
    "hosts: missing: want a list of host types",
    "builders: missing: want a list of builders",
  ]],
  ["misspelt fields", { ...small, bulders: [], repos: [{ ...repo, brnaches: [], polll: 1 }], builders: [{ ...builder, steps: [{ cmd: "make" }], zzz: 1 }] }, [
    'repos[0].brnaches: []: there is no such field; did you mean "branches"?',
    'repos[0].polll: 1: there is no such field; did you mean "poll"?',
    "builders[0].steps[0].command: missing: want a command as text, or a program and its arguments as a list",
    'builders[0].steps[0].cmd: "make": there is no such field',
    "builders[0].zzz: 1: there is no such field",
    'bulders: []: there is no such field; did you mean "builders"?',
  ]],
  ["a policy that there is not", { ...small, builders: [{ ...builder, superseded: "latest" }] }, [
    'builders[0].superseded: "latest": want "every", "newest" or "batch"',
  ]],
  ["spans", { ...small, repos: [{ ...repo, poll: "10ms" }], builders: [{ ...builder, timeLimit: 10, steps: [{ command: "x", timeLimit: "10 minutes" }] }] }, [
    'repos[0].poll: "10ms": want a span between 1s and 24h',
    'builders[0].steps[0].timeLimit: "10 minutes": want a span such as "90s", "1h30m" or "30d"',
    'builders[0].timeLimit: 10: want a span such as "90s", "1h30m" or "30d"',
  ]],
  ["names", { ...small, repos: [{ name: "", url: "." }, { name: "a/b", url: "." }, { name: "x\u202egnp", url: "." }, { name: "n".repeat(101), url: "." }, { name: "..", url: "." }] }, [
    'repos[0].name: "": want a name, it is empty',
    'repos[1].name: "a/b": want letters, digits, \'.\', \'_\' and \'-\' only, beginning with a letter or a digit',
    'repos[2].name: "x\\u202egnp": want letters, digits, \'.\', \'_\' and \'-\' only, beginning with a letter or a digit',
    `repos[3].name: "${"n".repeat(78)}…: want at most 100 characters, it has 101`,
    'repos[4].name: "..": want letters, digits, \'.\', \'_\' and \'-\' only, beginning with a letter or a digit',
  ]],
  ["texts", { ...small, hosts: [{ ...host, notes: "a\u001b[31m", owners: [{ name: " ", contact: "x\ny" }, { name: "a\u2066b", contact: "\ud800" }] }] }, [
    'hosts[0].owners[0].name: " ": want text, it is empty',
    'hosts[0].owners[0].contact: "x\\ny": want one line without control characters',
    'hosts[0].owners[1].name: "a\\u2066b": want no invisible or direction-changing characters',
    'hosts[0].owners[1].contact: "\\ud800": want valid Unicode, it has half a surrogate pair',
    'hosts[0].notes: "a\\u001b[31m": want many lines without control characters',
  ]],
  ["globs", { ...small, repos: [{ ...repo, branches: ["a b", "refs/heads/x", "[ab]", "a***", "", "!x", "x..y"] }], builders: [{ ...builder, branches: "!x", repos: ["apps", "z*", "a*"] }] }, [
    'repos[0].branches[0]: "a b": no branch can be named so: " " is not allowed; globs know *, ** and ?',
    'repos[0].branches[1]: "refs/heads/x": want a name without refs/heads/',
    'repos[0].branches[2]: "[ab]": no branch can be named so: "[" is not allowed; globs know *, ** and ?',
    'repos[0].branches[3]: "a***": want *, ** or ?, not ***',
    'repos[0].branches[4]: "": want a name or a glob, it is empty',
    'repos[0].branches[6]: "x..y": no branch can be named so: ".." is not allowed; globs know *, ** and ?',
    'builders[0].branches: "!x": want a pattern that adds something before one that takes away',
    'builders[0].repos[0]: "apps": no such repository in repos; did you mean "app"?',
    'builders[0].repos[1]: "z*": matches no repository in repos',
  ]],
  ["addresses", { ...small, repos: ["", "-x", "ext::sh -c id", "ftp://h/x", "https://u:hunter2@h/x", "https:///x", "ssh://-oProxyCommand=id/x", "a\nb"].map((url, i) => ({ name: `r${i}`, url })) }, [
    'repos[0].url: "": want a folder or a URL, it is empty',
    'repos[1].url: "-x": want a folder or a URL, not a flag',
    'repos[2].url: "ext::sh -c id": want a folder, file://, http://, https://, ssh:// or user@host:path',
    'repos[3].url: "ftp://h/x": want a folder, file://, http://, https://, ssh:// or user@host:path',
    'repos[4].url: "https://u:***@h/x": want no password in it, since it is shown on pages; use `token` instead',
    'repos[5].url: "https:///x": want a host in it',
    "repos[6].url: \"ssh://-oProxyCommand=id/x\": want a host that does not begin with '-'",
    'repos[7].url: "a\\nb": want no control characters, and no spaces around it',
  ]],
  ["secrets and numbers", { ...small, repos: [{ ...repo, webhook: "s3cret", token: { env: "T" }, depth: 20, history: 10 }], hosts: [{ ...host, expect: 1.5, pool: "gce", trust: "me", sharedKey: "no", hostArch: "Linux" }] }, [
    'repos[0].webhook: "***": want { env: "VARIABLE" } or { file: "PATH" }, never the secret itself',
    "hosts[0].hostArch: \"Linux\": want GOOS-GOARCH[-variant], such as \"linux-arm-7\"",
    "hosts[0].expect: 1.5: want a whole number between 0 and 100000",
    'hosts[0].pool: "gce": want "reverse" or "local"',
    'hosts[0].trust: "me": want "team" or "community"',
    'hosts[0].sharedKey: "no": want true or false',
    "repos[0].history: 10: want at least depth, which is 20",
    'repos[0].token: {"env":"T"}: want an https:// repository for it: elsewhere it could be read on the way, or means nothing',
  ]],
  ["steps and environment", { ...small, hosts: [{ hostType: "mac" }, host], builders: [
    { ...builder, env: { "A=B": "1", N: 1, "": "x" }, steps: [] },
    { ...builder, name: "b", env: 3, builds: true, steps: [" ", { command: [] }, { command: ["", "x"] }, { command: ["x", 1] }, { command: "x", dir: "../y" }, { command: "x", dir: "/y", env: ["=x", "A=\0"], path: [""] }, 5] },
  ] }, [
    "hosts[0].hostType: \"mac\": want host-GOOS-GOARCH[-anything], or a hostArch beside it",
    "builders[0].steps: []: want at least one step",
    "builders[0].env[\"A=B\"]: \"1\": want a key without '='",
    "builders[0].env.N: 1: want text; write numbers and booleans as strings",
    "builders[0].env[\"\"]: \"x\": want KEY=value",
    "builders[1].builds: true: want a function (repo, branch) => boolean",
    'builders[1].steps[0]: " ": want a command, it is empty',
    "builders[1].steps[1].command: []: want a command as text, or a program and its arguments as a list",
    'builders[1].steps[2].command[0]: "": want a program, it is empty',
    "builders[1].steps[3].command[1]: 1: want text",
    "builders[1].steps[4].dir: \"../y\": want a folder inside the source tree, without '..'",
    'builders[1].steps[5].dir: "/y": want a folder relative to the source tree',
    'builders[1].steps[5].env[0]: "=x": want KEY=value',
    'builders[1].steps[5].env[1]: "A=\\u0000": want no NUL in a variable',
    'builders[1].steps[5].path[0]: "": want a PATH element, it is empty',
    "builders[1].steps[6]: 5: want a command or { command }",
    'builders[1].env: 3: want { KEY: "value" } or ["KEY=value"]',
  ]],
  ["tests and snapshots", { ...small, builders: [
    { ...builder, helpers: 1, tryHelpers: 2 },
    { ...builder, name: "b", helpers: 2, tests: { list: ["a", "b\0", "c\nd", "", " e", "a", 5, "\ud800"], run: "x", nmaes: "args" } },
    { ...builder, name: "c", skipSnapshot: true, snapshot: {}, tests: { list: [], run: "", names: "stdin", results: "tap", groupTarget: "1ms", unknown: 3, keepGoing: 1 } },
    { ...builder, name: "d", tests: { list: { command: "l", timelimit: "1m" }, run: { command: "r", timeLimit: "0s" }, results: { junit: "../x" } }, snapshot: { exclude: [1], limit: "2GB", keep: "30days" } },
    { ...builder, name: "e", tests: { list: 7, run: "r", results: { junit: "a", x: 1 } }, snapshot: { limit: "2TiB", exlude: [] } },
    { ...builder, name: "f", tests: "go test" },
    { ...builder, name: "g", tests: { list: ["a", "b", "a", "b"], run: "r" } },
  ] }, [
    'builders[1].tests.list[1]: "b\\u0000": want no NUL and no line break in the name of a test',
    'builders[1].tests.list[2]: "c\\nd": want no NUL and no line break in the name of a test',
    'builders[1].tests.list[3]: "": want the name of a test, it is empty',
    'builders[1].tests.list[4]: " e": want no spaces around the name of a test',
    "builders[1].tests.list[6]: 5: want the name of a test",
    'builders[1].tests.list[7]: "\\ud800": want valid Unicode, it has half a surrogate pair',
    'builders[1].tests.nmaes: "args": there is no such field; did you mean "names"?',
    "builders[2].tests.list: []: want at least one name",
    'builders[2].tests.run: "": want a command, it is empty',
    'builders[2].tests.names: "stdin": want "args", "file" or "dir"',
    'builders[2].tests.results: "tap": want "exit", "go-test-json", "markers" or { junit: "GLOB" }',
    'builders[2].tests.groupTarget: "1ms": want a span between 100ms and 24h',
    'builders[2].tests.unknown: 3: want a span such as "90s", "1h30m" or "30d"',
    "builders[2].tests.keepGoing: 1: want true or false",
    'builders[3].tests.list.timelimit: "1m": there is no such field; did you mean "timeLimit"?',
    'builders[3].tests.run.timeLimit: "0s": want a span between 1s and 168h',
    "builders[3].tests.results.junit: \"../x\": want a folder inside the source tree, without '..'",
    "builders[3].snapshot.exclude[0]: 1: want text",
    'builders[3].snapshot.limit: "2GB": want a size such as "500MiB" or "2GiB"',
    'builders[3].snapshot.keep: "30days": want a span such as "90s", "1h30m" or "30d"',
    "builders[4].tests.list: 7: want a command or { command }",
    'builders[4].tests.results: {"junit":"a","x":1}: want "exit", "go-test-json", "markers" or { junit: "GLOB" }',
    'builders[4].snapshot.limit: "2TiB": want a size between 1KiB and 1TiB',
    'builders[4].snapshot.exlude: []: there is no such field; did you mean "exclude"?',
    'builders[5].tests: "go test": want { list, run }',
    'builders[6].tests.list[2]: "a": is already list[0]',
    'builders[6].tests.list[3]: "b": is already list[1]',
    "builders[0].helpers: 1: want tests beside it: helpers share the tests of a build, and there are none",
    "builders[0].tryHelpers: 2: want tests beside it: helpers share the tests of a build, and there are none",
    "builders[2].snapshot: {}: want none together with skipSnapshot, or no skipSnapshot",
  ]],
  ["sources", { ...small, builders: [
    { ...builder, sources: [], minimumGoVersion: "2.0", flakyNet: 1 },
    { ...builder, name: "b", sources: [{ dir: "go", commit: "own" }, { dir: "../x", url: "ftp://x" }, { dir: "go", file: "V" }, { dir: "", commit: "others", nmae: 1 }] },
    { ...builder, name: "c", tests: { list: { foldersWith: "a/b" }, run: "x", only: [], alone: "", dialect: "go", argsOn: {} }, snapshot: { remove: ["/"] } },
  ] }, [
    'builders[0].sources: []: want exactly one { dir, commit: "own" }: steps are run below it',
    "builders[0].flakyNet: 1: want true or false",
    'builders[0].minimumGoVersion: "2.0": want a version of Go such as "1.21"',
    'builders[1].sources[1].dir: "../x": want a folder inside the work folder, without \'..\'',
    'builders[1].sources[1].url: "ftp://x": want an http(s) address',
    'builders[1].sources[2]: {"dir":"go","file":"V"}: want one of commit, url, or file with text',
    'builders[1].sources[3].dir: "": want a folder below the work folder, it is empty',
    'builders[1].sources[3].commit: "others": want "own" or "other"',
    'builders[1].sources[3].nmae: 1: there is no such field; did you mean "name"?',
    'builders[2].tests.list.foldersWith: "a/b": want the name of a file',
    "builders[2].tests.only: []: want at least one pattern",
    'builders[2].tests.alone: "": want the name of a test, it is empty',
    'builders[2].tests.dialect: "go": want "go-dist" or "go-test"',
    "builders[2].tests.argsOn.branches: missing: want a name, a glob or a list of them",
    "builders[2].tests.argsOn.args: missing: want a list of arguments",
    'builders[2].snapshot.remove[0]: "/": want a folder relative to the source tree',
  ]],
  ["a policy that is none", { ...small, policy: "go" }, ['policy: "go": want { name, refuses, byDefault }, such as goPolicy']],
])("checkFarm() refuses %s", (_what, input, lines) => {
  expect(mistakes(input)).toEqual(lines);
}); // biome-ignore format: a table

test("checkFarm() says what is wrong with how machines are lent", () => {
  const hosts = [{ ...host, gomote: "everybody", gomoteMost: 0, lend: { gomot: true } }];
  expect(mistakes({ ...small, hosts, gomote: { perPerson: 0, idle: "1s", longest: "1y" } })).toEqual([
    'hosts[0].gomote: "everybody": want "nobody", "team" or "members"',
    "hosts[0].gomoteMost: 0: want a whole number between 1 and 100000",
    "hosts[0].lend.gomote: missing: want true or false",
    'hosts[0].lend.gomot: true: there is no such field; did you mean "gomote"?',
    "gomote.perPerson: 0: want a whole number between 1 and 10000",
    'gomote.idle: "1s": want a span between 1m and 7d',
    'gomote.longest: "1y": want a span such as "90s", "1h30m" or "30d"',
  ]);
});

test("checkFarm() says all mistakes in its message, and no password", () => {
  const refused = () => checkFarm({ ...small, repos: [{ name: "app", url: "https://u:hunter2@h/" }], hosts: 3 });
  expect(refused).toThrowError(
    [
      "The configuration has 3 mistakes:",
      '  repos[0].url: "https://u:***@h/": want no password in it, since it is shown on pages; use `token` instead',
      "  hosts: 3: want a list of host types",
      '  builders[0].host: "host-linux-amd64-x": no such hostType in hosts',
    ].join("\n"),
  );
});

test("effectiveFarm() prints the farm as JSON, functions by a word", () => {
  const printed = effectiveFarm(checkFarm({ ...small, builders: [{ ...builder, builds: () => true }] }));
  expect(JSON.parse(JSON.stringify(printed))).toEqual({
    policy: "open",
    publicUrl: null,
    login: null,
    notify: { operators: [], mail: null },
    retention: { greenLogs: "30d", logs: "90d", builds: "365d", gomotes: "180d", sessions: "180d", audit: "730d", notices: "30d" },
    repos: [
      { name: "app", url: ".", branches: ["HEAD"], releaseBranches: ["release-branch*", "release/*"], poll: "15s", depth: 10, history: 100, webhook: null, token: null, tokenUser: "x-access-token" },
    ],
    hosts: [
      {
        hostType: "host-linux-amd64-x", hostArch: "linux-amd64", expect: 0, missingAfter: "15m0s", reconnectWithin: "5m0s", env: [], owners: [], notes: "",
        pool: "reverse", trust: "community", sharedKey: true, hermetic: false, gomote: "nobody", gomoteMost: null, lend: { gomote: false },
      },
    ],
    gomote: { perPerson: 20, idle: "30m0s", longest: "7d", wait: "4h0m0s", fetch: "nothing", fetchPorts: [80, 443], transferLimit: "10GiB" },
    builders: [
      {
        name: "linux-amd64", host: "host-linux-amd64-x", goos: "linux", goarch: "amd64", repos: null, branches: null, builds: "(function)",
        steps: [{ name: "make", command: ["sh", "-ec", "make"], dir: "", env: [], path: [], timeLimit: "1h0m0s" }],
        env: [], knownIssues: [], notes: "", superseded: "every", tryOnly: false, ...WITHOUT_TESTS,
      },
    ],
  }); // biome-ignore format: one glance
});

test("checkFarm() reads whom to tell, how mail is sent and how long things are kept", () => {
  const farm = checkFarm({
    ...small,
    hosts: [
      {
        ...host,
        missingAfter: "2h",
        reconnectWithin: "30m",
        owners: [
          { name: "A", contact: "mailto:a@example.org" },
          { name: "B", contact: "@b on the chat" },
          { name: "C", contact: "c@example.org", notify: [] },
          { name: "D", contact: "d", notify: "https://chat.example.org/hook?x=1" },
        ],
      },
    ],
    publicUrl: "https://farm.example.org/",
    notify: {
      operators: ["ops@example.org", { webhook: { env: "HOOK" }, secret: { file: "hook-secret" } }],
      mail: {
        host: "smtp.example.org",
        security: "tls",
        user: "farm",
        password: { env: "SMTP" },
        from: "farm@example.org",
      },
    },
    retention: { greenLogs: "36h", logs: "36h" },
  });
  expect(farm.hosts[0]).toMatchObject({ missingAfterMs: 2 * 3_600_000, reconnectMs: 1_800_000 });
  expect(farm.hosts[0]?.owners.map((owner) => owner.notify)).toEqual([
    [{ kind: "mail", address: "a@example.org" }],
    [],
    [],
    [{ kind: "webhook", url: "https://chat.example.org/hook?x=1", secret: null }],
  ]);
  expect(farm.publicUrl).toBe("https://farm.example.org");
  expect(farm.notify).toEqual({
    operators: [
      { kind: "mail", address: "ops@example.org" },
      { kind: "webhook", url: { env: "HOOK" }, secret: { file: "hook-secret" } },
    ],
    mail: {
      host: "smtp.example.org", port: 465, security: "tls", user: "farm", password: { env: "SMTP" }, from: "farm@example.org", caFile: null,
    },
  }); // biome-ignore format: one glance
  expect([farm.retention.greenLogsMs, farm.retention.logsMs]).toEqual([129_600_000, 129_600_000]);
});

test("checkFarm() says what is wrong with recipients, mail and retention, and prints no secret", () => {
  const recipient = 'want a mail address, an https:// address, or { webhook, secret } with secret: { env: "VARIABLE" }';
  expect(
    mistakes({
      ...small,
      hosts: [
        {
          ...host,
          missingAfter: "1s",
          reconnectWithin: "25h",
          owners: [{ name: "A", contact: "a", notify: "a@b\r\nBcc: x@y" }],
        },
      ],
      publicUrl: "farm",
      notify: {
        operators: [
          "nobody",
          { webhook: "https://u:p@h/", secret: { env: "S" } },
          { webhook: "https://h/", secret: "hush" },
        ],
        mail: { host: "a b", password: "hush", from: "Farm <f@example.org>" },
      },
      retention: { logs: "1d", builds: "12h", audit: "forever", green: "1d" },
    }),
  ).toEqual([
    `hosts[0].owners[0].notify: "a@b\\r\\nBcc: x@y": ${recipient}`,
    'hosts[0].missingAfter: "1s": want a span between 1m and 168h',
    'hosts[0].reconnectWithin: "25h": want a span between 10s and 24h',
    'publicUrl: "farm": want an http:// or https:// address, without a password',
    `notify.operators[0]: "nobody": ${recipient}`,
    'notify.operators[1].webhook: "***": want an http:// or https:// address, without a password',
    `notify.operators[2].secret: "***": ${recipient}`,
    'notify.mail.host: "a b": want the name or the address of a mail server',
    'notify.mail.password: "***": want { env: "VARIABLE" } or { file: "PATH" }, never the secret itself',
    'notify.mail.from: "Farm <f@example.org>": want a mail address, such as farm@example.org',
    'retention.audit: "forever": want a span such as "90s", "1h30m" or "30d"',
    'retention.green: "1d": there is no such field',
  ]);
  expect(mistakes({ ...small, retention: { logs: "1d" } })).toEqual([
    'retention.logs: "1d": want at least greenLogs: what is green loses its logs first',
  ]);
});

test("a login is filled in, and every mistake in it named", () => {
  const login = { issuer: "https://accounts.example.org/realm", clientId: "farm", clientSecret: { env: "SECRET" } };
  const farm = (given: object) =>
    checkFarm({ ...small, publicUrl: "https://farm.example.org", login: { ...login, ...given } });
  expect(farm({}).login).toEqual({
    ...login,
    name: "accounts.example.org",
    allow: [],
    roles: [{ role: "member", claim: null, is: [] }],
  });
  expect(farm({ roles: { team: { claim: "groups", is: "farm" } } }).login?.roles).toEqual([
    { role: "team", claim: "groups", is: ["farm"] },
  ]);
  const mistakes = (given: object): string => {
    try {
      farm(given);
      return "none";
    } catch (error) {
      return messageOf(error);
    }
  };
  for (const [given, said] of [
    [
      { issuer: "http://accounts.example.org" },
      'login.issuer: "http://accounts.example.org": want an https:// address',
    ],
    [{ clientSecret: "hunter2" }, 'login.clientSecret: "***": want { env: "VARIABLE" }'],
    [
      { allow: ["example.org"] },
      'login.allow[0]: "example.org": want a mail address, such as "alice@example.org", or all of a domain',
    ],
    [
      { roles: { membre: "everybody" } },
      'login.roles.membre: "everybody": there is no such field; did you mean "member"?',
    ],
    [{ roles: { team: "farm" } }, 'login.roles.team: "farm": want "everybody", or { claim, is }'],
  ] as const)
    expect(mistakes(given)).toContain(said);
  expect(() => checkFarm({ ...small, login })).toThrow("publicUrl: missing: want it together with login");
});
