/**
 * GO_DISABLE_OUTBOUND_NETWORK: keeps tests off the internet, once for as long as the machine runs.
 *
 * Rules of the whole machine are changed, and they would cut off a machine that dials its coordinator on port 443 as
 * well; so only a buildlet in `-compatible` mode on Linux does it, as the original does.
 */
const RULES = [
  ["-m", "state", "--state", "NEW", "-d", "10.0.0.0/8", "-p", "tcp", "-j", "ACCEPT"],
  ...[443, 80, 22].map((port) => [
    "-m",
    "state",
    "--state",
    "NEW",
    "-p",
    "tcp",
    "--dport",
    String(port),
    "-j",
    "REJECT",
  ]),
];

/** A function that sets the rules at its first call. Failures are only logged, since the command runs anyway. */
export function outboundNetworkSwitch(enabled: boolean, log: (line: string) => void): () => Promise<void> {
  let done: Promise<void> | undefined;
  return () => {
    if (!enabled) return Promise.resolve();
    done ??= setRules(log);
    return done;
  };
}

async function setRules(log: (line: string) => void): Promise<void> {
  const { execFile } = await import("node:child_process");
  for (const rule of RULES) {
    await new Promise<void>((resolve) => {
      execFile("/sbin/iptables", ["-A", "OUTPUT", ...rule], (error) => {
        if (error) log(`Cannot disable the outbound network: ${error.message}`);
        resolve();
      });
    });
  }
}
