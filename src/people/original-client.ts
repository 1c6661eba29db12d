/**
 * What the original gomote command needs to be told to speak to this farm, which its program does not know.
 *
 * It takes its token from a metadata server if one is named in its environment, and that name may hold a user and a password. So a token is put
 * there as the password, and the farm's metadata server (web/metadata-routes.ts) hands the same back: it stores no token that it could give.
 * It checks no certificate of a server that is called `localhost:PORT`, and reaches a farm elsewhere through a tunnel.
 */
import type { Person } from "../farm/person.ts";

/** The project without whose name the original command does not use a metadata server. */
export const METADATA_PROJECT = "symbolic-datum-552";

export interface OriginalClient {
  readonly person: Pick<Person, "name">;
  readonly token: string;
  /** Ports of the farm: plain HTTP on loopback, and TLS. */
  readonly httpPort: number;
  readonly tlsPort: number;
  /** The computer that the coordinator runs on, for the tunnel. */
  readonly host: string;
}

/** Lines for a POSIX shell. */
export function originalClientSetup({ person, token, httpPort, tlsPort, host }: OriginalClient): string {
  const who = `${encodeURIComponent(person.name)}:${token}@localhost:${httpPort}`;
  return [
    `export GCE_METADATA_HOST='${who}'`,
    "unset GOOGLE_APPLICATION_CREDENTIALS GOMOTEDISABLELUCI",
    `alias gomote='gomote -server=localhost:${tlsPort}'`,
    "# On another computer than the coordinator's, beside it:",
    `# ssh -N -L ${tlsPort}:localhost:${tlsPort} -L ${httpPort}:localhost:${httpPort} ${host}`,
    "# There must be no ~/.config/gcloud/application_default_credentials.json.",
    "",
  ].join("\n");
}
