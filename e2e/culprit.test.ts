/** A push of many commits turns a builder red: the farm, left alone, finds out which of them did it, and says so where people look. */
import { readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { Process, until } from "./testing/process.ts";
import { Repository, temporaryFolder } from "./testing/repository.ts";

const HOST = "host-linux-amd64-local";

interface Answer {
  readonly red: readonly { readonly builder: string; readonly kind: string; readonly revision: string }[];
  readonly revisions: readonly { readonly desc: string; readonly statuses: readonly string[] }[];
}

test("a merge among many commits is found to have broken a builder, after a few builds", async () => {
  await using stack = new AsyncDisposableStack();
  const folder = await temporaryFolder();
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  const repository = stack.use(await Repository.make());
  await repository.commit("Begin", { "check.sh": "test ! -e broken\n" });
  const file = join(folder, "farm.config.ts");
  await writeFile(
    file,
    `export default { repos: [{ name: "app", url: ${JSON.stringify(repository.path)}, branches: "main", poll: "1s", depth: 1 }],
      hosts: [{ hostType: "${HOST}", pool: "local" }],
      builders: [{ name: "linux-amd64", host: "${HOST}", steps: ["sh check.sh"] }] };\n`,
  );
  const flags = ["-config", file, "-data", join(folder, "farm"), "-listen", "localhost:0", "-http", "localhost:0"];
  const coordinator = stack.use(Process.program("coordinator.js", flags));
  await coordinator.says(/The farm runs/);
  const { http } = JSON.parse(await readFile(join(folder, "farm", "coordinator.json"), "utf8")) as { http: string };
  const grid = async () => (await (await fetch(`${http}/p/app?format=json`)).json()) as Answer;
  const waits = (done: (answer: Answer) => boolean, what: string) =>
    until(
      async () => done(await grid()),
      60_000,
      () => `${what}\n${coordinator.output}`,
    );
  await waits(({ revisions }) => revisions[0]?.statuses[0] === "success", "the first build");

  // All at once for the farm, which looks at main only.
  await repository.git("checkout", "-q", "-b", "side");
  await repository.commit("Side one");
  await repository.commit("Side two", { broken: "" });
  await repository.git("checkout", "-q", "-b", "work", "main");
  for (let n = 1; n <= 9; n++) await repository.commit(`Before ${n}`);
  await repository.git("merge", "-q", "--no-ff", "-m", "Merge side", "side");
  const culprit = (await repository.git("rev-parse", "HEAD")).trim();
  for (let n = 1; n <= 6; n++) await repository.commit(`After ${n}`);
  await repository.git("branch", "-q", "-f", "main", "work");

  await waits(({ red }) => red[0]?.kind === "commit", "the culprit");
  const { red, revisions } = await grid();
  expect([red[0]?.builder, red[0]?.revision]).toEqual(["linux-amd64", culprit]);
  const built = revisions.filter(({ statuses }) => statuses[0] !== "");
  expect(built.length).toBeLessThanOrEqual(7); // both ends and log2 of the 15 between
  const page = await (await fetch(`${http}/p/app/${culprit}`)).text();
  const said = page.replace(/<script[\s\S]*?<\/script>/g, "").replace(/<[^>]*>/g, "");
  expect(said).toMatch(/broke linux-amd64.*What it merged.*Side two.*Side one/s);
}, 120_000);
