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
 * Source: the protocol as observed between the original programs. Registration and its headers: ../revdial/registration.ts.
 */

/** Version that our buildlet reports, in /status and at registration. */
export const BUILDLET_VERSION = 29;

/** Trailer of /exec. */
export const PROCESS_STATE = "Process-State";

/** The original client gives the head of an exec's response this long, then takes the machine for broken. */
export const EXEC_HEAD_LIMIT_MS = 20_000;
