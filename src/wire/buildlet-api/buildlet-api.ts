/**
 * The buildlet's HTTP API: names, numbers and texts that both ends share.
 *
 * A buildlet is an HTTP/1.1 server that unpacks archives, runs commands and streams what they print. The coordinator is
 * the client, over connections that the buildlet opened (../revdial/). Paths and methods:
 *
 *   GET  /status     {"Version":29}                  PUT  /write?path=&mode=   one file, mode in DECIMAL
 *   GET  /workdir    absolute path, no line feed      GET  /tgz?dir=            tar.gz in several gzip members
 *   PUT  /writetgz?dir=   body is a tar.gz            GET  /ls?dir=&recursive=&digest=&skip=
 *   POST /writetgz?dir=   form field url is fetched   POST /removeall           form field path, repeated
 *   POST /exec       form (exec-form.ts); output chunked, then the trailer Process-State
 *   POST /halt       end of the session               POST /connect-ssh         tunnel to the machine's sshd
 *
 * A wrong method is 400 everywhere. Files of this folder: rel-path.ts (which paths are allowed), exec-form.ts,
 * process-state.ts (the trailer), ls-line.ts, go-platform.ts (GOOS and GOARCH).
 *
 * Source: the protocol as observed between the original programs. Ours only are the headers `Barnraiser-…`: each side
 * sends them and does without when the other has never heard of them.
 */

/** Version that our buildlet reports, in /status and at registration. */
export const BUILDLET_VERSION = 29;
/** A coordinator drops a buildlet that reports less. */
export const MIN_BUILDLET_VERSION = 23;

/** Headers of `GET /reverse`. */
export const REGISTRATION_HEADERS = {
  hostname: "X-Go-Builder-Hostname",
  key: "X-Go-Builder-Key",
  version: "X-Go-Builder-Version",
  hostType: "X-Go-Host-Type",
  revdialVersion: "X-Revdial-Version",
  /** Ours: SHA-256 of the running agent program, 64 hex digits. */
  agent: "Barnraiser-Agent",
  /** Ours: `linux/x64 Debian GNU/Linux 12, 2 cores, 4 GiB`, for people. */
  platform: "Barnraiser-Platform",
  /** Ours: `many` when one session may serve several builds, cleaned in between by /removeall. */
  sessions: "Barnraiser-Sessions",
} as const;

/** Header of our coordinator's 101 to /reverse: with `1` the buildlet answers each keep-alive line with one. */
export const PONG_HEADER = "Barnraiser-Pong";

/** Trailer of /exec. */
export const PROCESS_STATE = "Process-State";

/** The original client gives the head of an exec's response this long, then takes the machine for broken. */
export const EXEC_HEAD_LIMIT_MS = 20_000;
