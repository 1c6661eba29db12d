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

/**
 * Ours. A buildlet leaves out the symbolic links of an archive without a word. With this header on PUT /writetgz ours makes those
 * that stay in the folder, and tells in SKIPPED_HEADER how many it did not make (0 too). The original ignores it and tells nothing.
 */
export const SYMLINKS_HEADER = "Barnraiser-Symlinks";
export const SYMLINKS_KEEP = "keep";
export const SKIPPED_HEADER = "Barnraiser-Skipped";

/**
 * Ours, on GET /tgz. With this header ours packs beside what runs in the folder, at low priority: it leaves out what the fields
 * EXCLUDE_FIELD of the query name (lines of a .gitignore) and what goes away meanwhile, and has the same header in its answer. The
 * original ignores it, packs everything, and has no such header in its answer.
 */
export const SNAPSHOT_HEADER = "Barnraiser-Snapshot";
export const SNAPSHOT_BESIDE = "beside";
export const EXCLUDE_FIELD = "exclude";

/**
 * Ours, on GET /tgz: the fields of this name say which files of `dir` are wanted, and nothing else is packed; those that are not there, or cannot be
 * opened, are left out. The original ignores it and packs everything.
 */
export const ONLY_FIELD = "only";

/**
 * Ours, on POST /removeall. Emptying the work dir is the end of the machine's lease, or the beginning of another, and ours then ends all that runs
 * before it deletes. Where this header says that the lease goes on only files go, since a borrower may empty the folder in which they work. A
 * coordinator that says nothing means the end; one that means the end says so, for agents of before that need it. The original ignores both: it
 * knows files only.
 */
export const LEASE_HEADER = "Barnraiser-Lease";
export const LEASE_GOES_ON = "goes-on";
export const LEASE_OVER = "over";

/** The original client gives the head of an exec's response this long, then takes the machine for broken. */
export const EXEC_HEAD_LIMIT_MS = 20_000;
