/**
 * What becomes of an entry when a buildlet unpacks an archive.
 *
 *   every name      must keep the rel rule, pax global headers apart; a bad one ends the extraction with 400
 *   directory       made with its parents, always 0755
 *   file            parents made; 9 permission bits, setuid, setgid and sticky dropped; mtime kept unless in the future
 *   symlink         skipped without a word
 *   hard link       becomes an empty file
 *   anything else   ends the extraction with 400
 *
 * So no link that an archive brings is ever on disk, and none can lead a later entry out of the work dir. Entries that
 * came before a bad one stay.
 */
import { isRelPath } from "../buildlet-api/rel-path.ts";
import { TarError, type TarHeader, tarText } from "./tar.ts";

export type Extraction =
  | { readonly do: "skip" }
  | { readonly do: "mkdir" }
  | { readonly do: "write"; readonly mode: number };

/** What to do with `header`. Throws TarError for what an archive must not hold. */
export function extraction(header: TarHeader, windows: boolean): Extraction {
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
      return { do: "skip" };
    default:
      throw new TarError(
        `Cannot unpack ${JSON.stringify(name)}: entries of type ${JSON.stringify(header.flag)} are not supported`,
      );
  }
}

/** The time to set on a file, in seconds: the archive's, but never one that is still to come. */
export function extractedTime(mtime: number, nowSeconds: number): number {
  return Math.min(mtime, nowSeconds);
}
