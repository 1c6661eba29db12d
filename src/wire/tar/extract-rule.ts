/**
 * What becomes of an entry when a buildlet unpacks an archive.
 *
 *   every name      must keep the rel rule, pax global headers apart; a bad one ends the extraction with 400
 *   directory       made with its parents, always 0755
 *   file            parents made; 9 permission bits, setuid, setgid and sticky dropped; mtime kept unless in the future
 *   symlink         skipped without a word; with `keepLinks` made as it is, unless its target leads out
 *   hard link       becomes an empty file
 *   anything else   ends the extraction with 400
 *
 * Links are to be made once all else is there: so none that an archive brings is on disk while entries are written, and none
 * can lead one out of the folder. A target leads out when it is absolute or, by its letters, above the folder that is unpacked.
 * Entries that came before a bad one stay.
 */
import { isRelPath } from "../buildlet-api/rel-path.ts";
import { NAME_LIMIT, TarError, type TarHeader, tarText } from "./tar.ts";

export type Extraction =
  | { readonly do: "skip" }
  /** A link that leads out, where links are kept. */
  | { readonly do: "skip-link" }
  | { readonly do: "link" }
  | { readonly do: "mkdir" }
  | { readonly do: "write"; readonly mode: number };

/** What to do with `header`. Throws TarError for what an archive must not hold. */
export function extraction(header: TarHeader, windows: boolean, keepLinks = false): Extraction {
  if (header.type === "global") return { do: "skip" };
  const name = tarText(header.name);
  if (!isRelPath(name, windows)) {
    throw new TarError(`Cannot unpack ${JSON.stringify(name)}: want a name that stays inside the archive's directory`);
  }
  switch (header.type) {
    case "directory":
      return { do: "mkdir" };
    case "file":
    case "link":
      return { do: "write", mode: header.mode & 0o777 };
    case "symlink":
      if (!keepLinks) return { do: "skip" };
      return { do: staysInside(name, tarText(header.linkName), windows) ? "link" : "skip-link" };
    default:
      throw new TarError(
        `Cannot unpack ${JSON.stringify(name)}: entries of type ${JSON.stringify(header.flag)} are not supported`,
      );
  }
}

/** Whether `target` of the link called `name` is below the folder where `name` starts. */
function staysInside(name: string, target: string, windows: boolean): boolean {
  const absolute = windows ? /^([/\\]|[A-Za-z]:)/ : /^\//;
  if (target === "" || target.length > NAME_LIMIT || absolute.test(target)) return false;
  return isRelPath(`${name}/../${target}`, windows);
}

/** The time to set on a file, in seconds: the archive's, but never one that is still to come. */
export function extractedTime(mtime: number, nowSeconds: number): number {
  return Math.min(mtime, nowSeconds);
}
