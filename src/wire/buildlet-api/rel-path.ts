/**
 * The rule that `dir`, `path`, names in archives and relative commands have to keep.
 *
 * A path must not be empty, and once cleaned by its letters alone it must neither be absolute nor lead out of the work
 * dir. `.` and `a/../b` are fine; on Unix a backslash is an ordinary character. Links on disk are not looked at: whoever
 * may call this API may run any command anyway; the rule is against accidents and bad archives.
 */
import { posix, win32 } from "node:path";

/** Whether `path` stays below the directory that it is going to be joined to. */
export function isRelPath(path: string, windows: boolean): boolean {
  if (path === "" || path.includes("\0")) return false;
  if (windows) {
    if (/^[A-Za-z]:/.test(path)) return false;
    if (path.includes("\\")) {
      const native = win32.normalize(path);
      return !/^[A-Za-z]:/.test(native) && !native.startsWith("\\") && native !== ".." && !native.startsWith("..\\");
    }
  }
  const clean = cleanPath(path);
  return !clean.startsWith("/") && clean !== ".." && !clean.startsWith("../");
}

/** `path` with `.`, `..`, double and trailing slashes resolved by its letters; "." for nothing. */
export function cleanPath(path: string): string {
  const normal = posix.normalize(path);
  return normal.length > 1 && normal.endsWith("/") ? normal.slice(0, -1) : normal;
}
