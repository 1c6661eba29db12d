/**
 * How a machine joins, with the commands of `docs/lend-a-machine.md`. Every page that has no machine to show says it. A
 * test compares the two.
 */
import type { JSX } from "preact";
import { visible } from "./text.ts";

/**
 * The two commands. `-halt=false -reboot=false` is needed: else the program powers the machine off or restarts it when
 * it is done.
 */
export function lendCommands(dial: string, hostType: string, name: string): readonly [string, string] {
  const agents = `https://${dial}/agents`;
  return [
    `curl -fsS --cacert ca.pem -O ${agents}/buildlet.mjs -O ${agents}/stage0.mjs`,
    `node buildlet.mjs -coordinator=${dial} -reverse-type=${hostType} -hostname=${name} -ca-file=ca.pem -halt=false -reboot=false`,
  ];
}

export function keyCommand(hostType: string, name: string): string {
  return `npm run -s genbuilderkey -- -machine ${name} ${hostType}`;
}

export function Lend(props: { dial: string; hostType: string | null }): JSX.Element {
  const type = visible(props.hostType ?? "HOST-TYPE");
  return (
    <>
      <p>
        {props.hostType === null ? "Define a host type in the farm's configuration. Then make" : "Make"} a key for the
        machine, where the coordinator runs; NAME is what the machine shall be called:
      </p>
      <pre class="command">{keyCommand(type, "NAME")}</pre>
      <p>
        On the machine, which needs Node 20 or newer, put the key into <code>~/.gobuildkey-{type}</code> and the farm's
        certificate (<code>.farm/tls/ca.pem</code>) beside you as <code>ca.pem</code>. Then fetch the program and start
        it:
      </p>
      <pre class="command">{lendCommands(props.dial, type, "NAME").join("\n")}</pre>
      <p>
        The machine appears here as soon as it has dialled in. How it stays, and keeps itself up to date, is in{" "}
        <code>docs/lend-a-machine.md</code>.
      </p>
    </>
  );
}
