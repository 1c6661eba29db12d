/**
 * docs/lend-a-machine.md, followed literally: every command of the page is taken from the page and run, with only the
 * farm's address replaced, by real processes, with certificates verified.
 */
import { cp, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { Process, root, until } from "./testing/process.ts";
import { Repository, temporaryFolder } from "./testing/repository.ts";

interface Block {
  readonly kind: string;
  readonly text: string;
}

async function pageBlocks(): Promise<Block[]> {
  const page = await readFile(join(root, "docs/lend-a-machine.md"), "utf8");
  return [...page.matchAll(/^```(\w+ [\w ]+)\n([\s\S]*?)^```/gm)].map((match) => ({
    kind: match[1] ?? "",
    text: match[2] ?? "",
  }));
}

function only(blocks: readonly Block[], kind: string, containing: string): string {
  const found = blocks.filter((block) => block.kind === kind && block.text.includes(containing));
  if (found.length !== 1 || !found[0])
    throw new Error(`docs/lend-a-machine.md has ${found.length} “${kind}” blocks with ${containing}`);
  return found[0].text.trim();
}

test("an owner who follows the page has a machine that works for the farm", { timeout: 120_000 }, async () => {
  const blocks = await pageBlocks();
  const folder = await temporaryFolder();
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  await using repository = await Repository.make();
  await repository.commit("Test it", { "test.sh": "#!/bin/sh\necho tested by $GO_BUILDER_NAME\n" });

  const data = join(folder, "farm");
  const config = join(folder, "farm.config.ts");
  const farmOf = (hostsAndBuilders: string) =>
    `import { defineFarm } from "barnraiser";\nexport default defineFarm({ repos: [{ name: "app", url: ${JSON.stringify(repository.path)}, poll: "1s" }],\n${hostsAndBuilders}\n});\n`;
  await writeFile(config, farmOf("hosts: [], builders: [],"));
  await using coordinator = Process.program("coordinator.js", [
    "-config",
    config,
    "-data",
    data,
    "-listen",
    "localhost:0",
    "-http",
    "localhost:0",
  ]);
  await coordinator.says(/The farm runs/);
  const { http, https } = JSON.parse(await readFile(join(data, "coordinator.json"), "utf8")) as {
    http: string;
    https: string;
  };
  /** What a reader of the page sees. */
  const page = async (path: string) => {
    const html = await (await fetch(`${http}${path}`)).text();
    return html.replace(/<(script|style)[\s\S]*?<\/\1>/g, "").replace(/<[^>]*>/g, "");
  };
  const address = new URL(https).host;
  const owners = (text: string) => text.replaceAll("farm.example.org:8119", address);

  // 1. A key, from the operator.
  const operator = new Process("sh", [
    "-ec",
    only(blocks, "sh operator", "genbuilderkey").replace(" -- ", ` -- -data ${data} `),
  ]);
  expect(await operator.exited, operator.output).toBe(0);
  const key = /^[0-9a-f]{32}$/m.exec(operator.output)?.[0] ?? "";
  expect(key).toHaveLength(32);
  const home = join(folder, "owner");
  await mkdir(home);
  await cp(join(data, "tls/ca.pem"), join(home, "ca.pem"));
  const machine = (text: string) =>
    new Process("sh", ["-ec", `export PATH=${root}node_modules/.bin:$PATH; ${owners(text)}`], {
      cwd: home,
      env: { HOME: home, KEY: key, TMPDIR: home },
    });
  await using keep = machine(only(blocks, "sh machine", ".gobuildkey"));
  expect(await keep.exited, keep.output).toBe(0);

  // 2. Host and builder, without a restart.
  await writeFile(config, farmOf(only(blocks, "ts config", "hosts:")));
  await until(
    async () => (await page("/builders")).includes("linux-amd64-lent"),
    20_000,
    () => "the builder on /builders",
  );
  expect(await page("/")).toContain("host-linux-amd64-lent: 0/0 (1 missing)");

  // 3. By hand.
  await using fetched = machine(only(blocks, "sh machine", "curl"));
  expect(await fetched.exited, fetched.output).toBe(0);
  {
    await using byHand = machine(`exec ${only(blocks, "sh machine background", "buildlet.mjs")}`);
    await until(
      async () => /riverboard/.test(await page("/")),
      30_000,
      () => `riverboard under /#pools:\n${byHand.output}`,
    );
    await until(
      async () => / passed in /.test(await page("/b/1")),
      30_000,
      () => `build 1 green:\n${byHand.output}\n${coordinator.output}`,
    );
    byHand.kill("SIGINT");
    await byHand.exited;
  }
  await until(
    async () => /host-linux-amd64-lent: 0\/0 \(1 missing: riverboard, silent since /.test(await page("/")),
    20_000,
    () => "the machine missing, by its name",
  );

  // 4. Under a supervisor, or by -loop.
  await using unit = machine(only(blocks, "sh machine", "-print-unit"));
  expect(await unit.exited, unit.output).toBe(0);
  expect(unit.output).toMatch(
    /^\[Unit\][\s\S]*ExecStart=.*stage0\.mjs.*-reverse-type=host-linux-amd64-lent[\s\S]*\[Install\]/m,
  );
  await using loop = machine(`exec ${only(blocks, "sh machine background", "-loop")}`);
  await until(
    async () => /riverboard/.test(await page("/machines/riverboard")),
    30_000,
    () => `riverboard back:\n${loop.output}`,
  );
  await repository.commit("And once more");
  await until(
    async () => / passed in /.test(await page("/b/2")),
    30_000,
    () => `build 2 green:\n${loop.output}\n${coordinator.output}`,
  );
});
