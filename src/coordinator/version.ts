/** The version of the program, as pages and the terminal show it: that of the package. */
import { readFileSync } from "node:fs";

function read(): string {
  // From the sources this file is two folders deep, from a build one.
  for (const path of ["../package.json", "../../package.json"]) {
    try {
      const found: unknown = JSON.parse(readFileSync(new URL(path, import.meta.url), "utf8"));
      if (typeof found === "object" && found !== null && "version" in found) return String(found.version);
    } catch {
      // the other place
    }
  }
  return "unknown";
}

export const VERSION: string = read();
