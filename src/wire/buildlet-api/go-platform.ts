/** Go's names for systems and processors, from Node's. */

const SYSTEMS: { readonly [platform: string]: string } = { win32: "windows", sunos: "solaris" };
const PROCESSORS: { readonly [arch: string]: string } = {
  x64: "amd64",
  ia32: "386",
  loong64: "loong64",
  mipsel: "mipsle",
};

/** GOOS for `process.platform`. */
export function goos(platform: string): string {
  return SYSTEMS[platform] ?? platform;
}

/** GOARCH for `process.arch`; Node has one word for both byte orders of ppc64. */
export function goarch(arch: string, endianness: "BE" | "LE"): string {
  if (arch === "ppc64" && endianness === "LE") return "ppc64le";
  return PROCESSORS[arch] ?? arch;
}
