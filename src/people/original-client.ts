/**
 * The settings with which the original gomote command can speak to this farm, which its program does not know.
 *
 * It takes its token from a metadata server if its environment names one, and that name may hold a user and a password.
 * So a token is put there as the password, and the farm's metadata server (web/metadata-routes.ts) sends the same back:
 * it stores no token that it could give. The command checks no certificate of a server that is called `localhost:PORT`;
 * it reaches a farm elsewhere through a tunnel. Its shells always go to one host and port, whatever its -server says:
 * the user's ssh configuration says where that host is here.
 */
import type { Person } from "../farm/person.ts";

/** The project that a metadata server must name, or else the original command does not use it. */
export const METADATA_PROJECT = "symbolic-datum-552";

export interface OriginalClient {
  readonly person: Pick<Person, "name">;
  readonly token: string;
  /** The farm's port for plain HTTP on loopback; tlsPort is that for TLS. */
  readonly httpPort: number;
  readonly tlsPort: number;
  /** The port of the ssh gateway; undefined: the farm has none. */
  readonly sshPort: number | undefined;
  /** The computer on which the coordinator runs, for the tunnel. */
  readonly host: string;
}

/** The host that the original's shells dial, as `ssh -p 2222 INSTANCE@HOST`. */
const SHELL_HOST = "gomotessh.golang.org";
const SHELL_PORT = 2222;

/** The settings as lines for a POSIX shell. */
export function originalClientSetup({ person, token, httpPort, tlsPort, sshPort, host }: OriginalClient): string {
  const who = `${encodeURIComponent(person.name)}:${token}@localhost:${httpPort}`;
  const ports = [tlsPort, httpPort, ...(sshPort === undefined ? [] : [sshPort])];
  return [
    `export GCE_METADATA_HOST='${who}'`,
    "unset GOOGLE_APPLICATION_CREDENTIALS GOMOTEDISABLELUCI",
    `alias gomote='gomote -server=localhost:${tlsPort}'`,
    "# On another computer than the coordinator's, beside it:",
    `# ssh -N ${ports.map((port) => `-L ${port}:localhost:${port}`).join(" ")} ${host}`,
    "# There must be no ~/.config/gcloud/application_default_credentials.json.",
    ...shellLines(sshPort),
    "",
  ].join("\n");
}

function shellLines(sshPort: number | undefined): readonly string[] {
  if (sshPort === undefined) {
    return [`# This farm has no ssh gateway: "gomote ssh" would ask ${SHELL_HOST}, which does not know you.`];
  }
  // The port on its command line wins over one of the configuration; a ProxyCommand wins over both.
  const there = sshPort === SHELL_PORT ? "HostName localhost" : `ProxyCommand nc localhost ${sshPort}`;
  return [
    `# "gomote ssh" asks ${SHELL_HOST} unless ~/.ssh/config says where that is here:`,
    `# Host ${SHELL_HOST}`,
    `#   ${there}`,
    "#   HostKeyAlias barnraiser",
  ];
}
