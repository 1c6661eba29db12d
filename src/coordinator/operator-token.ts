/**
 * The operator token: SECRETS/operator-token. It is random, made at the first start, and readable by the farm's user
 * alone.
 */
import { randomBytes } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { FarmError } from "../farm/errors.ts";

const SHORTEST = 16;

export async function operatorToken(secrets: string): Promise<string> {
  const file = join(secrets, "operator-token");
  const found = await readFile(file, "utf8").catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return undefined;
    throw new FarmError("forbidden", `Cannot read ${file}: ${error.message}`, { cause: error });
  });
  if (found !== undefined) {
    const token = found.trim();
    if (token.length >= SHORTEST) return token;
    throw new FarmError(
      "bad-request",
      `Cannot use ${file}: want at least ${SHORTEST} characters. Delete it, and the next start makes one.`,
    );
  }
  const made = randomBytes(24).toString("base64url");
  await writeFile(file, `${made}\n`, { mode: 0o600, flag: "wx" });
  return made;
}
