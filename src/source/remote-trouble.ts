/** Why a remote could not be used, for the people who run the farm: what happened, and what to do about it. */
import type { GitError } from "./git.ts";

const KNOWN: readonly (readonly [said: RegExp, meaning: string])[] = [
  [
    /could not read (Username|Password)|terminal prompts disabled/,
    "it asks for a user name and password: give the repository a `token`, or use an ssh address",
  ],
  [
    /Authentication failed|HTTP Basic: Access denied|error: 403|error: 401/,
    "it refuses us: check the repository's `token`, and what it may read",
  ],
  [
    /Host key verification failed/,
    "the ssh key of its host is not known here: add it to known_hosts of the user who runs the farm (ssh-keyscan)",
  ],
  [/Permission denied/, "it refuses the ssh key of the user who runs the farm"],
  [/Could not resolve host/, "there is no such host"],
  [/Connection refused|Failed to connect|Connection timed out|Could not connect/, "its host does not answer"],
  [/certificate|SSL/i, "its certificate is not trusted here"],
  [
    /does not appear to be a git repository|not found|not a git repository|does not exist/i,
    "there is no git repository",
  ],
  [/transport '.*' not allowed/, "the farm does not use this protocol"],
  [/No space left on device/, "the disk of the farm is full"],
];

const LONGEST_QUOTE = 300;

/** The reason in words. `what`: the thing that was tried, such as `fetch "app" from https://...`. */
export function remoteTrouble(what: string, error: GitError): string {
  if (error.why === "missing") return `Cannot ${what}: there is no git program here; install git 2.31 or newer`;
  if (error.why === "limit") return `Cannot ${what}: it did not answer in time (${error.message})`;
  if (error.why === "output") return `Cannot ${what}: ${error.message}`;
  const lines = error.stderr.split("\n").map((line) => line.trim());
  const said = lines.findLast((line) => /^(fatal|error):/.test(line)) ?? lines.at(-1) ?? "";
  const meaning = KNOWN.find(([pattern]) => pattern.test(error.stderr))?.[1];
  const quote = said === "" ? error.message : said.slice(0, LONGEST_QUOTE);
  return meaning === undefined ? `Cannot ${what}: ${quote}` : `Cannot ${what}: ${meaning} (git: ${quote})`;
}
