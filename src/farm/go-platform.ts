/** Go's names for systems and processors, from Node's. */

const SYSTEMS: { readonly [platform: string]: string } = { win32: "windows", sunos: "solaris" };
const PROCESSORS: { readonly [arch: string]: string } = {
  x64: "amd64",
  ia32: "386",
  mipsel: "mipsle",
};

/** GOOS for `process.platform`. */
export function goos(platform: string): string {
  return SYSTEMS[platform] ?? platform;
}

/** GOARCH for `process.arch`. Node has one name for both byte orders of ppc64. */
export function goarch(arch: string, endianness: "BE" | "LE"): string {
  if (arch === "ppc64" && endianness === "LE") return "ppc64le";
  return PROCESSORS[arch] ?? arch;
}

/**
 * `GOOS-GOARCH` of a computer that Node calls `process.platform` and `process.arch`. For ppc64 the default is
 * little-endian, the only one still made.
 */
export function platformName(platform: string, arch: string, endianness: "BE" | "LE" = "LE"): string {
  return `${goos(platform)}-${goarch(arch, endianness)}`;
}
