/** `coordinator`: a farm from a configuration file, for machines that dial in. See `-help` and docs/operate.md. */

import { effectiveFarm } from "../../config/effective-farm.ts";
import { commandFlags, commandOf } from "../../coordinator/command-flags.ts";
import { readFarm } from "../../coordinator/config-file.ts";
import { addressFlags } from "../../coordinator/flags.ts";
import { controlPeople } from "../../coordinator/people-control.ts";
import { peopleCommandOf, peopleFlags } from "../../coordinator/people-flags.ts";
import { main } from "../../coordinator/program.ts";
import { control } from "../../coordinator/remote-control.ts";
import { bool, choice, parseFlags, text, texts, usageError } from "../../farm/flags.ts";
import { systemClock } from "../../store/system-clock.ts";

const flags = {
  ...addressFlags,
  ...commandFlags,
  ...peopleFlags,
  "listen-ssh": text("", "`address` of the ssh gateway, for shells on machines that people borrow (default: none)"),
  peer: text("", "`address` of this TLS port for the farm's other coordinators (default: from -listen)"),
  config: text("farm.config.ts", "the configuration `file`"),
  "test-notice": bool(false, "send one test message to each of notify.operators, print what became of it, and end"),
  check: bool(false, "print the effective configuration, or its mistakes, and end"),
  mode: choice(["dev", "prod"], "prod", "dev: on loopback, also accept the protocol's public development key"),
  masterkey: text("", "`file` with the master key (default DATA/master.key, made at the first start)"),
  "allow-dev-key": bool(false, "accept the public development key on any address: anybody can then join"),
  "tls-cert": text("", "PEM `file` with a certificate chain to serve instead of the farm's own"),
  "tls-key": text("", "PEM `file` with its private key"),
  "tls-name": texts("further host `name` for the farm's own certificate; give it once for each"),
  "farm-name": text("Barnraiser", "the `name` that pages show"),
};

await main(async () => {
  const parsed = parseFlags(
    "Usage: coordinator [flags]. DATABASE_URL names a PostgreSQL server of your own.",
    flags,
    process.argv.slice(2),
  );
  if (parsed.kind === "stop") return parsed;
  const { values, args, given } = parsed;
  if (args.length > 0) return usageError(`unexpected argument ${JSON.stringify(args[0])}`);
  if (values.check) {
    process.stdout.write(
      `${JSON.stringify(effectiveFarm(await readFarm({ file: values.config }, systemClock)), undefined, 2)}\n`,
    );
    return 0;
  }
  if (values["test-notice"]) {
    const { testNotice } = await import("../../coordinator/test-notice.ts");
    return testNotice(values.config, values["farm-name"], systemClock, process.stdout);
  }
  const { data } = values;
  const secrets = values.secrets || data;
  const about = peopleCommandOf(values, given);
  if (about) {
    const { text, note = "" } = await controlPeople(data, secrets, about, systemClock.now());
    process.stdout.write(text);
    process.stderr.write(note);
    return 0;
  }
  const command = commandOf(values);
  if (command) {
    process.stdout.write(`${await control(data, secrets, command, systemClock)}\n`);
    return 0;
  }
  const { serve } = await import("../../coordinator/serve.ts");
  return serve({
    data: values.data,
    secrets: values.secrets,
    listen: values.listen,
    peer: values.peer,
    http: values.http,
    listenSsh: values["listen-ssh"],
    origin: { file: values.config },
    dev: values.mode === "dev",
    allowDevKey: values["allow-dev-key"],
    masterKeyFile: values.masterkey,
    certificate: { certFile: values["tls-cert"], keyFile: values["tls-key"], names: values["tls-name"] },
    farmName: values["farm-name"],
  });
});
