import { mkdir, readdir, rename, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { expect, test } from "vitest";
import { epochMs, ms } from "../farm/ids.ts";
import { branchesOf } from "../store/pages-grid.ts";
import { MIRROR_LIMITS } from "./mirror.ts";
import { Bench } from "./testing/bench.ts";
import { HttpRemote } from "./testing/http-remote.ts";
import { TestRepository } from "./testing/repository.ts";

async function benchWith(): Promise<{ bench: Bench; repo: TestRepository; url: string }> {
  const bench = await Bench.make();
  const url = join(bench.folder, "origin");
  return { bench, repo: await TestRepository.init(url), url };
}

test("a checkout's committed state is found, planned and followed", async () => {
  const { bench, repo, url } = await benchWith();
  await using _ = bench;
  await repo.commit("one", { "a.txt": "1" });
  const two = await repo.commit("two");
  await writeFile(join(url, "a.txt"), "not committed");
  await bench.open([{ name: "app", url: "origin" }]);
  expect([await bench.history(), bench.takePlanned(), await bench.error()]).toEqual([
    { main: ["two", "one"] },
    ["main: two, one"],
    null,
  ]);

  await bench.look();
  await repo.commit("three\n\nwith a body\n");
  await bench.look();
  await bench.look();
  expect([await bench.history(), bench.takePlanned()]).toEqual([
    { main: ["three\n\nwith a body", "two", "one"] },
    ["main: three\n\nwith a body"],
  ]);
  expect(new Set(bench.topics)).toEqual(new Set(["planned:main", "grid:app", "repo:app"]));

  const rows = await bench.sql.query(
    "select parents, author_name, author_email, committed_at from commit where message like 'three%'",
  );
  expect(rows).toEqual([
    { parents: [two], author_name: "Ann", author_email: "ann@example.org", committed_at: epochMs(1_700_000_003_000) },
  ]);
});

test("a detached checkout is watched as HEAD, and a checkout's other branch when it is switched", async () => {
  const { bench, repo } = await benchWith();
  await using _ = bench;
  await repo.commit("one");
  await repo.git("checkout", "-q", "--detach");
  await repo.commit("two");
  await bench.open([{ name: "app", url: "origin" }]);
  await repo.git("checkout", "-q", "-b", "other");
  await repo.commit("three");
  await bench.look();
  expect(await bench.history()).toEqual({ HEAD: ["two", "one"], other: ["three", "two", "one"] });
});

test("an empty repository says so, and is built once it has commits", async () => {
  const { bench, repo, url } = await benchWith();
  await using _ = bench;
  await bench.open([{ name: "app", url: "origin" }]);
  expect([await bench.error(), await bench.history()]).toEqual([
    `Cannot find everything in "app" at origin: it has no commits yet`,
    {},
  ]);
  await repo.commit("first");
  await bench.look();
  expect([await bench.error(), bench.takePlanned()]).toEqual([null, ["main: first"]]);
  expect(url).toContain("origin");
});

test("a branch that is not there is named with those that are; what is there is built", async () => {
  const { bench, repo } = await benchWith();
  await using _ = bench;
  await repo.commit("one");
  for (const name of ["release/1", "release/2", "wip"]) await repo.git("branch", name);
  await bench.open([{ name: "app", url: "origin", branches: ["mian", "release/*", "!release/2", "x*"] }]);
  expect([await bench.error(), await bench.history()]).toEqual([
    'Cannot find everything in "app" at origin: it has no branch "mian"; it has "main", "release/1", "release/2", "wip"',
    { "release/1": ["one"] },
  ]);
});

test("a glob without branches is told only where nothing at all is watched", async () => {
  const { bench, repo } = await benchWith();
  await using _ = bench;
  await repo.commit("one");
  await bench.open([{ name: "app", url: "origin", branches: ["release-*"] }]);
  expect(await bench.error()).toContain('it has no branch that matches "release-*"; it has "main"');
});

test("of a huge history the newest are recorded, of these the newest planned, and the mirror takes little more", async () => {
  const { bench, repo } = await benchWith();
  await using _ = bench;
  await repo.commits(300, "c");
  await bench.open([{ name: "app", url: "origin", depth: 3, history: 50 }]);
  const main = (await bench.history()).main ?? [];
  expect([main.length, main[0], main.at(-1), bench.takePlanned()]).toEqual([
    50,
    "c 300",
    "c 251",
    ["main: c 300, c 299, c 298"],
  ]);
  const held = await repo.git("--git-dir", join(bench.folder, "mirrors/app.git"), "rev-list", "--all", "--count");
  expect(Number(held)).toBe(51);
  const orphans = await bench.sql.query("select 1 from commit where parents = '{}'");
  expect(orphans).toEqual([]);

  await repo.commits(60, "d"); // more at once than is ever recorded: there is a gap, and what was there stays
  await bench.look();
  const longer = (await bench.history()).main ?? [];
  expect([longer.length, longer[49], longer[50], bench.takePlanned()]).toEqual([
    100,
    "d 11",
    "c 300",
    ["main: d 60, d 59, d 58"],
  ]);
});

test("merges are followed along their first parents", async () => {
  const { bench, repo } = await benchWith();
  await using _ = bench;
  await repo.commit("one");
  await repo.git("checkout", "-q", "-b", "side");
  await repo.commit("side");
  await repo.git("checkout", "-q", "main");
  await repo.commit("two");
  await repo.git("merge", "-q", "--no-ff", "-m", "merge", "side");
  await bench.open([{ name: "app", url: "origin" }]);
  expect(await bench.history()).toEqual({ main: ["merge", "two", "one"] });
  const [row] = await bench.sql.query<{ parents: string[] }>("select parents from commit where message = 'merge'");
  expect(row?.parents.length).toBe(2);
});

test("what a merge brought is told, as far as it is here", async () => {
  const { bench, repo } = await benchWith();
  await using _ = bench;
  const one = await repo.commit("one");
  await repo.git("checkout", "-q", "-b", "side");
  await repo.commit("side 1");
  await repo.commit("side 2");
  await repo.git("checkout", "-q", "main");
  await repo.commit("two");
  await repo.git("merge", "-q", "--no-ff", "-m", "merge", "side");
  await bench.open([{ name: "app", url: "origin" }]);
  const merged = async (hash: string, count: number) =>
    (await bench.source.merged("app", hash, count)).map((commit) => commit.message);
  const merge = await repo.git("rev-parse", "HEAD");
  expect([
    await merged(merge, 10),
    await merged(merge, 1),
    await merged(one, 10),
    await merged("0".repeat(40), 10),
  ]).toEqual([["side 2", "side 1"], ["side 2"], [], []]);
});

test("a forced push replaces the tail of a branch; what it took away can still be built", async () => {
  const { bench, repo } = await benchWith();
  await using _ = bench;
  await repo.commit("one");
  const gone = await repo.commit("gone", { "gone.txt": "x" });
  await bench.open([{ name: "app", url: "origin" }]);
  await repo.git("reset", "-q", "--hard", "HEAD~1");
  await repo.commit("instead");
  await bench.look();
  expect([await bench.history(), bench.takePlanned()]).toEqual([
    { main: ["instead", "one"] },
    ["main: gone, one", "main: instead"],
  ]);

  await repo.git("checkout", "-q", "--orphan", "fresh");
  await repo.commit("unrelated");
  await repo.git("branch", "-M", "fresh", "main");
  await bench.look();
  expect([await bench.history(), bench.takePlanned()]).toEqual([{ main: ["unrelated"] }, ["main: unrelated"]]);

  await repo.git("reflog", "expire", "--expire=now", "--all");
  await repo.git("gc", "-q", "--prune=now");
  await repo.git("--git-dir", join(bench.folder, "mirrors/app.git"), "gc", "-q", "--prune=now");
  expect((await (await bench.source.tarball("app", gone)).written).bytes).toBeGreaterThan(0);
});

test("a remote that vanishes leaves everything as it was, and is taken up again when it is back", async () => {
  const { bench, repo, url } = await benchWith();
  await using _ = bench;
  const one = await repo.commit("one");
  await bench.open([{ name: "app", url: "origin" }]);
  await rename(url, `${url}.away`);
  await bench.look();
  expect([await bench.error(), await bench.history()]).toEqual([
    `Cannot fetch "app": there is no folder ${JSON.stringify(url)}`,
    { main: ["one"] },
  ]);
  const since = () => bench.sql.query("select error_since from repo");
  const first = await since();
  await bench.look();
  expect(await since()).toEqual(first);
  expect((await (await bench.source.tarball("app", one)).written).bytes).toBeGreaterThan(0);
  await rename(`${url}.away`, url);
  await repo.commit("two");
  await bench.look();
  expect([await bench.error(), await since(), await bench.history()]).toEqual([
    null,
    [{ error_since: null }],
    { main: ["two", "one"] },
  ]);
});

test("a branch that the remote does not have any more is gone, and back when it is pushed again; HEAD's branch comes first, whatever moved", async () => {
  const { bench, repo } = await benchWith();
  await using _ = bench;
  await repo.commit("one");
  await bench.open([{ name: "app", url: "origin", branches: ["main", "feature/*"] }]);
  await repo.git("checkout", "-q", "-b", "feature/a");
  const two = await repo.commit("two");
  await repo.git("checkout", "-q", "main");
  await bench.look();
  const branches = () => branchesOf(bench.sql, "app");
  expect(await branches()).toEqual(["main", "feature/a"]);
  bench.topics.splice(0);
  await repo.git("branch", "-q", "-D", "feature/a");
  await bench.look();
  await bench.look();
  const topics = ["grid:app", "standing:app", "planned:feature/a", "repo:app", "repo:app"];
  expect([await branches(), bench.topics]).toEqual([["main"], topics]);
  expect(await bench.history()).toEqual({ main: ["one"], "feature/a": ["two", "one"] });
  for (const [how, head] of [
    ["as it was", two],
    ["moved", await repo.git("rev-parse", "main")],
  ] as const) {
    await repo.git("branch", "-q", "feature/a", head);
    await bench.look();
    expect([how, await branches()]).toEqual([how, ["main", "feature/a"]]);
    await repo.git("branch", "-q", "-D", "feature/a");
    await bench.look();
    expect([how, await branches()]).toEqual([how, ["main"]]);
  }
});

test("a folder that is no repository says so", async () => {
  const bench = await Bench.make();
  await using _ = bench;
  await mkdir(join(bench.folder, "empty"));
  await bench.open([{ name: "app", url: "empty" }]);
  expect(await bench.error()).toMatch(/^Cannot fetch "app" from empty: there is no git repository \(git: fatal: .*\)$/);
});

test("texts of all kinds get into the database", async () => {
  const { bench, repo } = await benchWith();
  await using _ = bench;
  const tree = await repo.gitWith({ input: "" }, "mktree");
  const raw = async (...lines: (string | Buffer)[]) => {
    const body = Buffer.concat([`tree ${tree}\n`, ...lines].map((l) => Buffer.from(l)));
    const hash = await repo.gitWith({ input: body }, "hash-object", "-t", "commit", "-w", "--literally", "--stdin");
    await repo.git("update-ref", "refs/heads/main", hash);
    return `parent ${hash}\n`;
  };
  const bad = Buffer.from([0xff, 0xfe, 0x80]);
  const p1 = await raw(
    "author &lt;i&gt; '; <a@b> -5 +0000\ncommitter C <c@d> -5 +0000\n\n<script>alert(1)</script> \u202egnp\u001b[31m\n",
  );
  const p2 = await raw(
    p1,
    "author ",
    bad,
    " <",
    bad,
    "> 0 +0000\ncommitter C <c@d> 99999999999999 +0000\n\nbytes ",
    bad,
    "\n",
  );
  const p3 = await raw(p2, "author  <> 1700000000 +0000\ncommitter  <> 1700000000 +0000\n\n");
  await raw(p3, "author A <a@b> 1700000000 +0000\ncommitter A <a@b> 1700000000 +0000\n\n", "x".repeat(3 << 20));
  await bench.open([{ name: "app", url: "origin" }]);
  const rows = await bench.sql.query<{ message: string }>(
    "select author_name, author_email, committed_at, message from commit order by id",
  );
  expect(rows.map((row) => ({ ...row, message: row.message.length > 100 ? row.message.length : row.message }))).toEqual([
    { author_name: "&lt;i&gt; ';", author_email: "a@b", committed_at: 0, message: "<script>alert(1)</script> \u202egnp\u001b[31m" },
    { author_name: "\ufffd\ufffd\ufffd", author_email: "\ufffd\ufffd\ufffd", committed_at: expect.any(Number), message: "bytes \ufffd\ufffd\ufffd" },
    { author_name: "", author_email: "", committed_at: 1_700_000_000_000, message: "" },
    { author_name: "A", author_email: "a@b", committed_at: 1_700_000_000_000, message: 65_536 + "\n[cut off here]".length },
  ]); // biome-ignore format: a table
});

test("branches named alike, or one below the other, do not get into each other's way", async () => {
  const { bench, repo } = await benchWith();
  await using _ = bench;
  await repo.commit("one");
  await repo.git("branch", "a");
  await repo.git("branch", "ünï-\u202e");
  await bench.open([{ name: "app", url: "origin", branches: "**" }]);
  await repo.git("branch", "-D", "a");
  await repo.git("branch", "a/b");
  await bench.look();
  expect([Object.keys(await bench.history()).sort(), await bench.error()]).toEqual([
    ["a", "a/b", "main", "ünï-\u202e"],
    null,
  ]);
});

test("recording and planning is all or nothing: a planner that fails is asked again", async () => {
  const { bench, repo } = await benchWith();
  await using _ = bench;
  await repo.commit("one");
  const planned = bench.planned;
  bench.planned = async (sql, found) => {
    await planned(sql, found);
    throw new Error("killed here");
  };
  const opened = bench.open([{ name: "app", url: "origin" }]);
  await expect.poll(() => bench.takePlanned()).toEqual(["main: one"]);
  expect(await bench.history()).toEqual({});
  bench.planned = planned;
  bench.source.poke("app");
  await opened;
  expect([await bench.history(), bench.takePlanned()]).toEqual([{ main: ["one"] }, ["main: one"]]);
});

test("configure() plans the newest commits anew, stops watching what is gone, and a restart finds everything again", async () => {
  const { bench, repo } = await benchWith();
  await using _ = bench;
  await repo.commits(5, "c");
  const app = { name: "app", url: "origin", depth: 2 };
  await bench.open([app]);
  await bench.configure([app]);
  await bench.open([app]);
  expect(bench.takePlanned()).toEqual(["main: c 5, c 4", "main: c 5, c 4", "main: c 5, c 4"]);
  await bench.configure([]);
  expect([bench.source.poke("app"), bench.source.poke("none")]).toEqual([false, false]);
});

test("locks of a git that was killed do not stop the next fetch, and an unusable mirror is made again", async () => {
  const { bench, repo } = await benchWith();
  await using _ = bench;
  await repo.commit("one");
  await bench.open([{ name: "app", url: "origin" }]);
  const mirror = join(bench.folder, "mirrors/app.git");
  for (const lock of ["shallow.lock", "packed-refs.lock", "config.lock"]) await writeFile(join(mirror, lock), "");
  await repo.commit("two");
  await bench.look();
  expect([await bench.error(), await bench.history()]).toEqual([null, { main: ["two", "one"] }]);
  await rm(join(mirror, "HEAD"));
  await repo.commit("three");
  await bench.look();
  expect([await bench.error(), await bench.history()]).toEqual([null, { main: ["three", "two", "one"] }]);
});

test.each(["smart", "dumb"] as const)("a repository over HTTP (%s) is mirrored", async (kind) => {
  const { bench, repo } = await benchWith();
  await using _ = bench;
  await repo.commits(20, "c");
  await using server = await HttpRemote.listen({ kind, folder: bench.folder });
  const url = `${server.url}/origin/.git`;
  await repo.git("update-server-info");
  await bench.open([{ name: "app", url, history: 10 }]);
  await repo.commit("new");
  await repo.git("update-server-info");
  await bench.look();
  expect([await bench.error(), (await bench.history()).main?.slice(0, 2), bench.takePlanned().at(-1)]).toEqual([
    null,
    ["new", "c 20"],
    "main: new",
  ]);
});

test("a repository that asks for a password says what to do, and is read with a token, which no message and no argument shows", async () => {
  const { bench, repo } = await benchWith();
  await using _ = bench;
  await repo.commit("one");
  await using server = await HttpRemote.listen({ kind: "password", folder: bench.folder, password: "hunter2" });
  const url = `${server.url}/origin/.git`;
  await bench.open([{ name: "app", url }]);
  expect(await bench.error()).toMatch(
    /^Cannot fetch "app" from \S+: it asks for a user name and password: give the repository a `token`, or use an ssh address \(git: fatal: could not read Username/,
  );
  const token = { file: "token" };
  await bench.configure([{ name: "app", url, token }]);
  expect(await bench.error()).toMatch(/^Cannot read a secret from ".*token"$/);
  await writeFile(join(bench.folder, "token"), "wrong-secret\n");
  await bench.look();
  expect(await bench.error()).toMatch(/it (refuses us|asks for a user name)/);
  expect(await bench.error()).not.toContain("wrong-secret");
  await writeFile(join(bench.folder, "token"), "hunter2\n");
  await bench.look();
  expect([await bench.error(), await bench.history()]).toEqual([null, { main: ["one"] }]);
});

test("a server that never answers costs its time limit, not more", async () => {
  const bench = await Bench.make();
  await using _ = bench;
  await using server = await HttpRemote.listen({ kind: "silent" });
  const limits = { ...MIRROR_LIMITS, list: ms(500) };
  await bench.open([{ name: "app", url: `${server.url}/x` }], { limits });
  expect(await bench.error()).toBe(
    `Cannot fetch "app" from ${server.url}/x: it did not answer in time (git ls-remote ran longer than 500 ms)`,
  );
});

test("closing ends a fetch in the middle, with every process of it", async () => {
  const bench = await Bench.make();
  await using _ = bench;
  const silent = createServer();
  await new Promise<void>((resolve) => silent.listen(0, "127.0.0.1", resolve));
  const address = silent.address();
  const connected = new Promise<void>((resolve) => {
    silent.once("connection", (socket) => {
      socket.on("error", () => {}).resume();
      socket.once("close", () => silent.close());
      resolve();
    });
  });
  const closed = new Promise((resolve) => silent.once("close", resolve));
  const port = typeof address === "object" ? address?.port : 0;
  void bench.open([{ name: "app", url: `http://127.0.0.1:${port}/x` }]);
  await connected;
  await bench.close();
  await closed; // the process that had the connection is gone
});

test("a host, a port and a protocol that are not there say so", async () => {
  const bench = await Bench.make();
  await using _ = bench;
  await bench.open([{ name: "app", url: "http://127.0.0.1:1/x" }]);
  expect(await bench.error()).toMatch(/^Cannot fetch "app" from http:\/\/127.0.0.1:1\/x: its host does not answer/);
});

test("a coordinator that ends in the middle of a fetch finds everything when it is back", async () => {
  const { bench, repo } = await benchWith();
  await using _ = bench;
  await repo.commits(30, "c");
  await using server = await HttpRemote.listen({ kind: "smart", folder: bench.folder });
  server.stall = true;
  const app = { name: "app", url: `${server.url}/origin/.git` };
  void bench.open([app]);
  await server.stalled.promise;
  await bench.close();
  server.stall = false;
  await bench.open([app]);
  expect([await bench.error(), (await bench.history()).main?.length]).toEqual([null, 30]);
  const left = await readdir(join(bench.folder, "mirrors/app.git"), { recursive: true });
  expect(left.filter((name) => /\.lock$|tmp_/.test(name))).toEqual([]);
});

test("includes() knows what a commit's history has, and takes what was never seen to be older", async () => {
  const { bench, repo } = await benchWith();
  await using _ = bench;
  const one = await repo.commit("one");
  const two = await repo.commit("two");
  await repo.git("checkout", "-q", "-b", "side", one);
  const side = await repo.commit("side");
  await bench.open([{ name: "app", url: "origin", branches: ["main", "side"] }]);
  const answers = await Promise.all(
    [[two, one], [side, one], [side, two], [two, "9".repeat(40)]].map(([hash = "", needed = ""]) => bench.source.includes("app", hash, needed)),
  ); // biome-ignore format: one glance
  expect(answers).toEqual([true, true, false, true]);
  expect([bench.source.watches("app", "side"), bench.source.watches("app", "gone")]).toEqual([true, false]);
});
