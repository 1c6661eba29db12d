/** What `npm start` runs: a farm on this checkout, or on any repository, with this computer as its machine. */
import { endianness } from "node:os";
import { farmForRepository } from "../../config/farm-for-repository.ts";
import { addressFlags } from "../../coordinator/flags.ts";
import { main } from "../../coordinator/program.ts";
import { bool, parseFlags, text, texts, usageError } from "../../farm/flags.ts";
import { platformName } from "../../farm/go-platform.ts";

const flags = {
  ...addressFlags,
  config: text("farm.config.ts", "the configuration `file`, unless -repo is given"),
  repo: text("", "`path or URL` of a git repository to build instead"),
  branch: text("", "its `branch` (default: the one that it is on)"),
  run: texts("`command` to run; several are steps in order (default: what the repository looks like)"),
  once: bool(
    false,
    "end when the newest commit's builds have ended: exit 0 green, 1 a build failed, 2 the farm could not",
  ),
};

await main(async () => {
  const parsed = parseFlags("Usage: npm start -- [flags]", flags, process.argv.slice(2));
  if (parsed.kind === "stop") return parsed;
  const { values, args } = parsed;
  if (args.length > 0) return usageError(`unexpected argument ${JSON.stringify(args[0])}`);
  if (!values.repo && (values.branch || values.run.length > 0)) return usageError("-branch and -run go with -repo");
  const platform = platformName(process.platform, process.arch, endianness());
  const branch = values.branch ? { branch: values.branch } : {};
  const at = { url: values.repo, from: process.cwd() };
  const farm = () => farmForRepository({ ...at, ...branch, commands: values.run, platform });
  const { serve } = await import("../../coordinator/serve.ts");
  return serve({
    data: values.data,
    secrets: values.secrets,
    listen: values.listen,
    http: values.http,
    origin: values.repo ? { farm: farm() } : { file: values.config },
    dev: true,
    once: values.once,
    terminal: true,
    farmName: "Barnraiser",
  });
});
