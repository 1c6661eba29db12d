/** People and their tokens from the command line, beside a running coordinator. */
import { readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { Process } from "./testing/process.ts";
import { temporaryFolder } from "./testing/repository.ts";

/** A farm that builds nothing; answers a function that runs `coordinator FLAGS` beside it. */
async function farm(stack: AsyncDisposableStack) {
  const folder = await temporaryFolder();
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  const config = join(folder, "farm.config.ts");
  await writeFile(config, "export default { repos: [], hosts: [], builders: [] };\n");
  const data = join(folder, "farm");
  const flags = ["-config", config, "-data", data, "-listen", "localhost:0", "-http", "localhost:0"];
  const coordinator = stack.use(Process.program("coordinator.js", flags));
  await coordinator.says(/The farm runs/);
  const { http } = JSON.parse(await readFile(join(data, "coordinator.json"), "utf8")) as { http: string };
  return {
    coordinator,
    pages: http,
    async run(...given: string[]): Promise<{ status: number | NodeJS.Signals; said: string }> {
      await using run = Process.program("coordinator.js", ["-data", data, ...given]);
      return { status: await run.exited, said: run.output };
    },
  };
}

test("users are added, listed, given roles and tokens, and removed; each refusal says what to do", {
  timeout: 180_000,
}, async () => {
  await using stack = new AsyncDisposableStack();
  const { run, coordinator, pages } = await farm(stack);
  const said = async (...flags: string[]) => (await run(...flags)).said;
  expect(await said("-list-users")).toBe("There are no users yet. -add-user EMAIL adds one.\n");
  expect(await run("-add-user", "alice@example.org", "-roles", "member,team")).toEqual({
    status: 0,
    said: "alice@example.org is a user now, with roles team, member\n",
  });
  expect(await said("-set-roles", "Alice@example.org", "-roles", "member")).toBe(
    "alice@example.org has role member now\n",
  );
  const made = await said("-new-token", "alice@example.org", "-name", "laptop", "-expires", "1h");
  const [, token = "", id = ""] = /^(brt_[\w-]{40})\n(T[0-9a-f]{9}) of alice@example.org, good until /.exec(made) ?? [];
  expect(token, made).not.toBe("");
  expect(await said("-list-users")).toMatch(
    /^EMAIL +ROLES +SINCE +TOKENS +LAST USED\nalice@example.org +member +\S+ \S+ +1 +never\n$/,
  );
  expect(await said("-list-tokens", "alice@example.org")).toMatch(
    new RegExp(`\\n${id} +${token.slice(0, 8)} +laptop +\\S+ \\S+ +\\S+ \\S+ +never +good\\n$`),
  );
  expect(await said("-revoke-token", id)).toBe(`token ${id} is revoked\n`);
  expect(await said("-list-tokens", "alice@example.org")).toMatch(/ revoked \S+ \S+\n$/);

  for (const [flags, why] of [
    [
      ["-add-user", "ALICE@example.org"],
      "alice@example.org is here already, with role member. -set-roles changes that.",
    ],
    [["-add-user", "bob"], 'Cannot take "bob" for a mail address: want NAME@DOMAIN'],
    [
      ["-add-user", "bob@example.org", "-roles", "tema"],
      'Cannot give the role "tema": there are operator, team, member; did you mean "team"?',
    ],
    [
      ["-remove-user", "alcie@example.org"],
      'Cannot find the user "alcie@example.org"; did you mean "alice@example.org"?',
    ],
    [["-new-token", "alice@example.org", "-expires", "20000h"], "at most 9600h0m0s"],
    [["-revoke-token", "T000000000"], 'Cannot revoke "T000000000": there is no such token'],
    [
      ["-remove-user", "a@example.org", "-list-users"],
      "Cannot do -remove-user and -list-users at once: give one of them",
    ],
    [["-list-users", "-roles", "team"], "Cannot use -roles without -add-user or -set-roles"],
    [["-set-roles", "alice@example.org"], "Cannot do -set-roles without -roles"],
    [["-rebuild", "1", "-list-users"], "Cannot do -list-users and -rebuild at once: give one of them"],
  ] as const) {
    const refused = await run(...flags);
    expect(refused.status, refused.said).toBe(2);
    expect(refused.said).toContain(why);
  }
  // What the original command does with what it is told: it asks for the project, and for the token.
  const told = await said("-gomote-env", "alice@example.org");
  const [, host = ""] = /^export GCE_METADATA_HOST='([^']+)'$/m.exec(told) ?? [];
  const metadata = new URL(`http://${host}/computeMetadata/v1/instance/service-accounts/default/identity?audience=x`);
  const authorization = `Basic ${Buffer.from(`${metadata.username}:${metadata.password}`).toString("base64")}`;
  const { origin, pathname, search } = metadata;
  const identity = await fetch(`${origin}${pathname}${search}`, {
    headers: { authorization, "metadata-flavor": "Google" },
  });
  expect([identity.status, await identity.text(), origin]).toEqual([200, metadata.password, pages]);
  expect(told).toMatch(/^alias gomote='gomote -server=localhost:\d+'$/m);

  expect(await run("-remove-user", "alice@example.org")).toEqual({
    status: 0,
    said: "alice@example.org is no user any more; what they held is being ended\n",
  });
  expect(await said("-list-users")).toContain("There are no users yet.");
  expect(coordinator.output).not.toContain(token);
});
