/**
 * The part of the coordinator's environment that the local machine's programs, and so all builds on it, see.
 *
 * Builds run code of everybody who may push. The coordinator's environment holds secrets: DATABASE_URL, and tokens of
 * the shell that it was started from. So this lists the names that may pass, not those that may not: a secret has any
 * name.
 */
const NAMES: readonly string[] = [
  ...["PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TERM", "TZ", "TMPDIR"],
  ...["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy"],
  ...["SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS"],
  ...["npm_config_registry", "npm_config_cafile", "npm_config_cache"],
];

/** Variables without which hardly any program starts on Windows. */
const WINDOWS_NAMES: readonly string[] = [
  ...["SystemRoot", "SystemDrive", "windir", "ComSpec", "PATHEXT", "OS", "TEMP", "TMP"],
  ...["USERNAME", "USERPROFILE", "HOMEDRIVE", "HOMEPATH", "APPDATA", "LOCALAPPDATA", "ALLUSERSPROFILE", "ProgramData"],
  ...["ProgramFiles", "ProgramFiles(x86)", "ProgramW6432", "CommonProgramFiles", "CommonProgramFiles(x86)"],
  ...["NUMBER_OF_PROCESSORS", "PROCESSOR_ARCHITECTURE", "PROCESSOR_IDENTIFIER", "COMPUTERNAME"],
];

export function localEnvironment(own: NodeJS.ProcessEnv, platform: NodeJS.Platform): { [name: string]: string } {
  const windows = platform === "win32"; // there the case of a name does not count
  const key = (name: string) => (windows ? name.toUpperCase() : name);
  const passes = new Set([...NAMES, ...(windows ? WINDOWS_NAMES : [])].map(key));
  const pairs: [string, string][] = [];
  for (const [name, value] of Object.entries(own)) {
    if (value !== undefined && (passes.has(key(name)) || key(name).startsWith("LC_"))) pairs.push([name, value]);
  }
  return Object.fromEntries(pairs);
}
