/**
 * The text of the trailer `Process-State`: how a command ended.
 *
 *   ok               exit 0
 *   exit status 7    any other exit
 *   signal: killed   ended by a signal, with Go's name for it
 *   anything else    it could not be started; the text says why
 *
 * A client may rely on `ok`, and on a missing trailer meaning that the machine, not the command, failed.
 */
export const PROCESS_OK = "ok";

/** Go's words for signals, which are those of the C library. */
const SIGNAL_WORDS: { readonly [signal: string]: string } = {
  SIGHUP: "hangup",
  SIGINT: "interrupt",
  SIGQUIT: "quit",
  SIGILL: "illegal instruction",
  SIGTRAP: "trace/breakpoint trap",
  SIGABRT: "aborted",
  SIGBUS: "bus error",
  SIGFPE: "floating point exception",
  SIGKILL: "killed",
  SIGUSR1: "user defined signal 1",
  SIGSEGV: "segmentation fault",
  SIGUSR2: "user defined signal 2",
  SIGPIPE: "broken pipe",
  SIGALRM: "alarm clock",
  SIGTERM: "terminated",
  SIGXCPU: "CPU time limit exceeded",
  SIGXFSZ: "file size limit exceeded",
  SIGVTALRM: "virtual timer expired",
  SIGPROF: "profiling timer expired",
  SIGSYS: "bad system call",
};

/** The text for a process that ended with `code`, or by `signal`. */
export function processState(code: number | null, signal: string | null): string {
  if (code === 0) return PROCESS_OK;
  if (code !== null) return `exit status ${code >= 0x10000 ? `0x${code.toString(16)}` : code}`;
  return `signal: ${SIGNAL_WORDS[signal ?? ""] ?? signal ?? "unknown"}`;
}

/** The exit code that `state` tells of: 0 for `ok`, undefined when there was none. */
export function exitCodeOf(state: string): number | undefined {
  if (state === PROCESS_OK) return 0;
  const [, code] = /^exit status (\d+|0x[0-9a-f]+)$/.exec(state) ?? [];
  return code === undefined ? undefined : Number(code);
}

/** Numbers of signals as Linux has them, whatever the machine: for a person's shell, which knows no other. */
const SIGNAL_NUMBERS: { readonly [signal: string]: number } = {
  SIGHUP: 1,
  SIGINT: 2,
  SIGQUIT: 3,
  SIGILL: 4,
  SIGTRAP: 5,
  SIGABRT: 6,
  SIGBUS: 7,
  SIGFPE: 8,
  SIGKILL: 9,
  SIGUSR1: 10,
  SIGSEGV: 11,
  SIGUSR2: 12,
  SIGPIPE: 13,
  SIGALRM: 14,
  SIGTERM: 15,
  SIGXCPU: 24,
  SIGXFSZ: 25,
  SIGVTALRM: 26,
  SIGPROF: 27,
  SIGSYS: 31,
};

/** The number of the signal that `state` tells of; undefined when there was none, or none that is known. */
export function signalOf(state: string): number | undefined {
  const [, word] = /^signal: ([^(]+?)(?: \(core dumped\))?$/.exec(state) ?? [];
  return Object.entries(SIGNAL_WORDS).flatMap(([signal, known]) => (known === word ? [SIGNAL_NUMBERS[signal]] : []))[0];
}

const ERRNO_WORDS: { readonly [code: string]: string } = {
  ENOENT: "no such file or directory",
  EACCES: "permission denied",
  EPERM: "operation not permitted",
  ENOEXEC: "exec format error",
  ENOTDIR: "not a directory",
  E2BIG: "argument list too long",
  ENOMEM: "cannot allocate memory",
  EAGAIN: "resource temporarily unavailable",
  EMFILE: "too many open files",
  ETXTBSY: "text file busy",
  ELOOP: "too many levels of symbolic links",
  ENAMETOOLONG: "file name too long",
  EINVAL: "invalid argument",
  ENOSPC: "no space left on device",
  EISDIR: "is a directory",
};

/** The text for a command that could not be started: `fork/exec /w/x: permission denied`. */
export function startErrorState(what: "fork/exec" | "chdir", path: string, errno: string): string {
  // A trailer is one line of visible characters, and a path may hold anything.
  const visible = [...path].map((c) => (c >= " " && c < "\x7f" ? c : "?")).join("");
  return `${what} ${visible}: ${ERRNO_WORDS[errno] ?? errno}`;
}
