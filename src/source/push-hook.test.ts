import { createHmac } from "node:crypto";
import { expect, test } from "vitest";
import { checkFarm } from "../config/check.ts";
import { quiet } from "../store/testing/database.ts";
import { handlePush, MAX_PUSH_BODY } from "./push-hook.ts";

const { repos } = checkFarm({
  repos: [
    { name: "app", url: "https://git.example.org/team/app.git", webhook: { env: "A" } },
    { name: "app-ssh", url: "git@git.example.org:team/app", webhook: { env: "A" } },
    { name: "lib", url: "ssh://git@git.example.org:2222/team/lib", webhook: { env: "A" } },
    { name: "other", url: "/srv/other", webhook: { env: "B" } },
    { name: "open", url: "/srv/open" },
    { name: "broken", url: "/srv/broken", webhook: { env: "C" } },
  ],
  hosts: [],
  builders: [],
});
const SECRETS: Record<string, string> = { A: "secret a", B: "secret b" };

async function push(headers: Record<string, string>, body: string | Buffer) {
  const poked: string[] = [];
  const answer = await handlePush(headers, Buffer.from(body), {
    repos: () => repos,
    secret: async ({ webhook }) => {
      if (!webhook || !("env" in webhook)) return undefined;
      const secret = SECRETS[webhook.env];
      if (secret === undefined) throw new Error("no such variable");
      return secret;
    },
    poke: (repo) => poked.push(repo),
    log: quiet,
  });
  return { ...answer, poked };
}
const hmac = (secret: string, body: string) => createHmac("sha256", secret).update(body).digest("hex");

test.each([
  ["GitHub", (body: string) => ({ "x-hub-signature-256": `sha256=${hmac("secret a", body)}` })],
  ["Gitea", (body: string) => ({ "x-gitea-signature": hmac("secret a", body) })],
  ["Forgejo", (body: string) => ({ "x-forgejo-signature": hmac("secret a", body).toUpperCase() })],
  ["GitLab", () => ({ "x-gitlab-token": "secret a" })],
])("a push from %s pokes the repository that it names, however it is reached", async (forge, sign) => {
  const url =
    forge === "GitLab"
      ? { project: { git_http_url: "https://GIT.example.org/team/app.git" } }
      : { repository: { clone_url: "https://git.example.org/team/app.git" } };
  const body = JSON.stringify(url);
  expect(await push(sign(body), body)).toEqual({
    status: 202,
    body: { poked: ["app", "app-ssh"] },
    poked: ["app", "app-ssh"],
  });
});

test("an address with a port is the same repository", async () => {
  const body = JSON.stringify({ repository: { ssh_url: "git@git.example.org:team/lib.git" } });
  expect((await push({ "x-gitea-signature": hmac("secret a", body) }, body)).poked).toEqual(["lib"]);
});

test("a push that names nothing known pokes all that its secret opens, and no others", async () => {
  for (const body of ["", "payload=%7B", "null", '{"repository":{"url":7,"clone_url":"https://elsewhere/x"}}']) {
    expect((await push({ "x-gitea-signature": hmac("secret b", body) }, body)).poked).toEqual(["other"]);
  }
});

test("a push that nobody signed, or that is signed wrongly, or too large, is refused and says what to do", async () => {
  const signed = { "x-hub-signature-256": `sha256=${hmac("secret a", "{}")}` };
  const refusals = [
    await push({}, "{}"),
    await push({ "x-hub-signature-256": hmac("secret a", "{}") }, "{}"),
    await push(signed, "{} "),
    await push({ "x-hub-signature-256": "sha256=" }, "{}"),
    await push({ "x-gitlab-token": "undefined" }, "{}"),
    await push(signed, Buffer.alloc(MAX_PUSH_BODY + 1)),
  ];
  const unsigned =
    "Cannot take a push that is not signed: want one of the headers X-Hub-Signature-256, X-Gitea-Signature, X-Forgejo-Signature or X-Gitlab-Token";
  const wrong =
    "Cannot take a push: its signature fits no repository; set `webhook` of the repository in the configuration to the secret that the forge has";
  expect(refusals).toEqual([
    { status: 401, body: { error: unsigned }, poked: [] },
    { status: 401, body: { error: unsigned }, poked: [] },
    { status: 403, body: { error: wrong }, poked: [] },
    { status: 403, body: { error: wrong }, poked: [] },
    { status: 403, body: { error: wrong }, poked: [] },
    { status: 413, body: { error: "Cannot take a push of 1048577 bytes: at most 1048576 are read" }, poked: [] },
  ]);
});
