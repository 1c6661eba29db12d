import { expect, test } from "vitest";
import { GitError } from "./git.ts";
import { chooseBranches, readRefs } from "./remote.ts";
import { remoteTrouble } from "./remote-trouble.ts";

const [A, B] = ["a".repeat(40), "b".repeat(40)];

test("readRefs() reads branches and HEAD, and nothing else", () => {
  const output = [
    "ref: refs/heads/dev\tHEAD", `${A}\tHEAD`, `${A}\trefs/heads/dev`, `${B}\trefs/heads/a/b`, `${B}\trefs/remotes/origin/HEAD`,
    `${B}\trefs/x/refs/heads/y`, `${B}\trefs/heads/bad\ufffd`, "nonsense", "",
  ].join("\n"); // biome-ignore format: a listing
  expect(readRefs(output)).toEqual({
    head: A,
    headBranch: "dev",
    branches: new Map([
      ["dev", A],
      ["a/b", B],
    ]),
  });
});

test("chooseBranches() guesses the default branch where the remote does not tell, and says when it is empty", () => {
  const refs = {
    head: A,
    headBranch: undefined,
    branches: new Map([
      ["x", A],
      ["master", A],
    ]),
  };
  const many = new Map(Array.from({ length: 12 }, (_, i) => [`b${i}`, A] as const));
  const named = (choice: ReturnType<typeof chooseBranches>) => [choice.watched.map((w) => w.name), choice.problem];
  expect([
    named(chooseBranches(["HEAD"], refs)),
    named(chooseBranches(["HEAD"], { ...refs, head: B })),
    named(chooseBranches(["HEAD"], { ...refs, head: undefined, headBranch: "main" })),
    named(chooseBranches(["HEAD", "b1"], { head: A, headBranch: "b1", branches: many })),
    named(chooseBranches(["none"], { head: A, headBranch: "b1", branches: many })),
  ]).toEqual([
    [["master"], null],
    [["HEAD"], null],
    [[], 'its default branch "main" has no commits yet; it has "x", "master"'],
    [["b1"], null],
    [[], 'it has no branch "none"; it has "b0", "b1", "b2", "b3", "b4", "b5", "b6", "b7", "b8", "b9" and 2 more'],
  ]);
});

test("remoteTrouble() says what happened and what to do", () => {
  const said = (stderr: string) => remoteTrouble("fetch", new GitError("exit", stderr, "git ls-remote ended with 128"));
  expect([
    said("Host key verification failed.\nfatal: Could not read from remote repository.\nplease check"),
    said("git@h: Permission denied (publickey).\nfatal: Could not read from remote repository."),
    said("fatal: unable to access 'https://x/': Could not resolve host: x"),
    said("remote: boom\nfatal: something new"),
    said(""),
    remoteTrouble("fetch", new GitError("missing", "", "spawn git ENOENT")),
  ]).toEqual([
    "Cannot fetch: the ssh key of its host is not known here: add it to known_hosts of the user who runs the farm (ssh-keyscan) (git: fatal: Could not read from remote repository.)",
    "Cannot fetch: it refuses the ssh key of the user who runs the farm (git: fatal: Could not read from remote repository.)",
    "Cannot fetch: there is no such host (git: fatal: unable to access 'https://x/': Could not resolve host: x)",
    "Cannot fetch: fatal: something new",
    "Cannot fetch: git ls-remote ended with 128",
    "Cannot fetch: there is no git program here; install git 2.31 or newer",
  ]);
});
