/**
 * Addresses of repositories, read by hand: a pure room has no URL class, and git's scp-like form is not a URL.
 *
 *   path     a folder, absolute or relative to the configuration
 *   file     file:///folder
 *   http     http:// or https://
 *   ssh      ssh:// or [user@]host:path
 */
export type UrlKind = "path" | "file" | "http" | "ssh";

const SCHEMES: { readonly [scheme: string]: UrlKind } = { file: "file", http: "http", https: "http", ssh: "ssh" };

export function urlKind(url: string): UrlKind | undefined {
  const scheme = /^([A-Za-z][A-Za-z0-9+.-]*):\/\//.exec(url)?.[1];
  if (scheme !== undefined) return SCHEMES[scheme.toLowerCase()];
  if (/^[A-Za-z]:[\\/]/.test(url)) return "path"; // a drive letter
  if (/^[^/:]+::/.test(url)) return undefined; // git's remote helpers, which run programs
  return /^[^/:]+:/.test(url) ? "ssh" : "path";
}

/** The rule that `url` breaks. Undefined: none. */
export function urlFault(url: string): string | undefined {
  if (url === "") return "want a folder or a URL, it is empty";
  if (url.length > 2000) return "want at most 2000 characters";
  if (/[\p{Cc}]/u.test(url) || url.trim() !== url) return "want no control characters, and no spaces around it";
  if (url.startsWith("-")) return "want a folder or a URL, not a flag";
  const kind = urlKind(url);
  if (kind === undefined) return "want a folder, file://, http://, https://, ssh:// or user@host:path";
  if (kind === "path" || kind === "file") return undefined;
  if (passwordOf(url) !== undefined) return "want no password in it, since it is shown on pages; use `token` instead";
  const host = hostOf(url);
  if (host === "") return "want a host in it";
  // ssh would read such a host as an option.
  if (host.startsWith("-")) return "want a host that does not begin with '-'";
  return undefined;
}

/** The rule that `url` breaks as an address of a page or a webhook. Undefined: none. */
export function webUrlFault(url: string): string | undefined {
  if (url.length > 2000) return "want at most 2000 characters";
  if (!/^https?:\/\/[^\s\p{Cc}/?#@]+([/?#][^\s\p{Cc}]*)?$/u.test(url))
    return "want an http:// or https:// address, without a password";
  return undefined;
}

/** Whether `text` is a plain `local@domain`: no names around it, nothing that could end a header. */
export function isMailAddress(text: string): boolean {
  return text.length <= 254 && /^[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+@[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$/.test(text);
}

/** Whether a token may be sent to `url`: only where nobody on the way can read it. */
export function keepsSecret(url: string): boolean {
  return url.startsWith("https://") || /^http:\/\/([^@/]*@)?(localhost|127\.0\.0\.1|\[::1\])(:\d+)?(\/|$)/.test(url);
}

/** `url` without its password, if it has one, for messages. */
export function withoutPassword(url: string): string {
  const password = passwordOf(url);
  return password === undefined ? url : url.replace(`:${password}@`, ":***@");
}

function authority(url: string): string {
  return /^[A-Za-z][A-Za-z0-9+.-]*:\/\/([^/?#]*)/.exec(url)?.[1] ?? /^([^/:]+):/.exec(url)?.[1] ?? "";
}

function passwordOf(url: string): string | undefined {
  const user = authority(url);
  const at = user.lastIndexOf("@");
  const colon = user.indexOf(":");
  return at > 0 && colon >= 0 && colon < at ? user.slice(colon + 1, at) : undefined;
}

function hostOf(url: string): string {
  const whole = authority(url);
  return whole.slice(whole.lastIndexOf("@") + 1).replace(/:\d*$/, "");
}
