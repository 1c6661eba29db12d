/**
 * `POST /hooks/push`: a forge tells us that somebody pushed, so that we look at once and not at the next poll.
 *
 * The caller must know the secret of a repository's `webhook`:
 *
 *   GitHub             X-Hub-Signature-256: sha256=HEX    HMAC-SHA-256 of the body
 *   Gitea, Forgejo     X-Gitea-Signature, X-Forgejo-Signature: HEX    the same
 *   GitLab             X-Gitlab-Token: SECRET
 *
 * The body only picks among the repositories that the secret opens: those whose address it names, or all of them when
 * it names none that we know. A second or a wrong call costs one look.
 */
import { createHash, createHmac, timingSafeEqual } from "node:crypto";
import type { RepoConfig } from "../config/effective.ts";
import type { Log } from "../farm/deps.ts";
import { CODES, FarmError, messageOf } from "../farm/errors.ts";

/** Larger bodies are refused. Forges send a few hundred KiB at most. */
export const MAX_PUSH_BODY: number = 1 << 20;

export interface PushDeps {
  readonly repos: () => readonly RepoConfig[];
  /** The secret of a repository's webhook. Undefined: it has none. Rejects when the secret cannot be read. */
  readonly secret: (repo: RepoConfig) => Promise<string | undefined>;
  readonly poke: (repo: string) => void;
  readonly log: Log;
}

export interface PushAnswer {
  readonly status: number;
  readonly body: { readonly poked: readonly string[] } | { readonly error: string };
}

/** Answers a push. `headers` has lower-case names, as Node gives them. */
export async function handlePush(
  headers: Readonly<Record<string, string | string[] | undefined>>,
  body: Uint8Array,
  deps: PushDeps,
): Promise<PushAnswer> {
  if (body.length > MAX_PUSH_BODY) {
    return refuse(
      new FarmError("too-large", `Cannot take a push of ${body.length} bytes: at most ${MAX_PUSH_BODY} are read`),
    );
  }
  const proofs = proofsIn(headers);
  if (proofs.length === 0) {
    const known = "X-Hub-Signature-256, X-Gitea-Signature, X-Forgejo-Signature or X-Gitlab-Token";
    return refuse(
      new FarmError("unauthenticated", `Cannot take a push that is not signed: want one of the headers ${known}`),
    );
  }
  const opened: RepoConfig[] = [];
  for (const repo of deps.repos()) {
    const secret = await deps.secret(repo).catch((error: unknown) => {
      deps.log.error({ repo: repo.name, error: messageOf(error) }, "Could not read the secret of a webhook");
      return undefined;
    });
    if (secret !== undefined && proofs.some((proof) => proves(proof, secret, body))) opened.push(repo);
  }
  if (opened.length === 0) {
    const hint =
      "its signature fits no repository; set `webhook` of the repository in the configuration to the secret that the forge has";
    return refuse(new FarmError("forbidden", `Cannot take a push: ${hint}`));
  }
  const named = addressesIn(body);
  const meant = opened.filter((repo) => named.has(addressOf(repo.url)));
  const poked = (meant.length > 0 ? meant : opened).map((repo) => repo.name);
  for (const name of poked) deps.poke(name);
  return { status: 202, body: { poked } };
}

type Proof = { readonly hmac: string } | { readonly token: string };

function proofsIn(headers: Readonly<Record<string, string | string[] | undefined>>): Proof[] {
  const proofs: Proof[] = [];
  for (const [name, prefix] of [
    ["x-hub-signature-256", "sha256="],
    ["x-gitea-signature", ""],
    ["x-forgejo-signature", ""],
  ] as const) {
    const value = headers[name];
    if (typeof value === "string" && value.startsWith(prefix)) proofs.push({ hmac: value.slice(prefix.length) });
  }
  const token = headers["x-gitlab-token"];
  if (typeof token === "string" && token !== "") proofs.push({ token });
  return proofs;
}

function proves(proof: Proof, secret: string, body: Uint8Array): boolean {
  if ("token" in proof) return same(proof.token, secret);
  return same(proof.hmac.toLowerCase(), createHmac("sha256", secret).update(body).digest("hex"));
}

/** Whether two texts are the same. How long this takes tells neither where they differ nor their lengths. */
function same(a: string, b: string): boolean {
  const digest = (text: string): Buffer => createHash("sha256").update(text).digest();
  return timingSafeEqual(digest(a), digest(b));
}

/** All addresses of the repository that a push of one of the forges names, as `addressOf` writes them. */
function addressesIn(body: Uint8Array): Set<string> {
  let push: unknown;
  try {
    push = JSON.parse(new TextDecoder().decode(body));
  } catch {
    return new Set(); // some forges can send forms; the signature is what counts
  }
  const addresses = new Set<string>();
  for (const about of [field(push, "repository"), field(push, "project")]) {
    for (const key of [
      "clone_url",
      "ssh_url",
      "html_url",
      "git_url",
      "url",
      "git_http_url",
      "git_ssh_url",
      "web_url",
      "homepage",
    ]) {
      const url = field(about, key);
      if (typeof url === "string" && url !== "") addresses.add(addressOf(url));
    }
  }
  return addresses;
}

function field(value: unknown, key: string): unknown {
  return typeof value === "object" && value !== null && Object.hasOwn(value, key) ? Reflect.get(value, key) : undefined;
}

/** The address as `host/path`, the same for all the ways to reach a repository. */
function addressOf(url: string): string {
  return url
    .toLowerCase()
    .replace(/^[a-z+]+:\/\//, "")
    .replace(/^[^/@]*@/, "")
    .replace(/^([^/:]+):\d+\//, "$1/")
    .replace(/^([^/:]+):\/?/, "$1/")
    .replace(/\/+$/, "")
    .replace(/\.git$/, "");
}

function refuse(error: FarmError): PushAnswer {
  return { status: CODES[error.code].http, body: { error: error.message } };
}
