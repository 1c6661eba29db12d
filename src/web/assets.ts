/**
 * Scripts and styles for browsers, read once when the farm starts.
 *
 * The address of each file holds a digest of its content, so a browser may keep it for ever. The parts that a script
 * imports (`./chunk-ABC.js`) have a digest in their names already and keep them.
 */
import { createHash } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { extname, join } from "node:path";
import type { Asset, Assets } from "./deps.ts";

const TYPES: Readonly<Record<string, string>> = {
  ".js": "text/javascript; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".svg": "image/svg+xml",
};

/** Reads the files of `folder`: dist/ui, which `npm run build` makes. */
export async function loadAssets(folder: string): Promise<Assets> {
  const files = new Map<string, Buffer>();
  for (const name of await readdir(folder))
    if (TYPES[extname(name)]) files.set(name, await readFile(join(folder, name)));
  return assetsOf(files);
}

export function assetsOf(files: ReadonlyMap<string, Buffer>): Assets {
  const byAddress = new Map<string, Asset>();
  const urls = new Map<string, string>();
  for (const [name, body] of files) {
    const digest = createHash("sha256").update(body).digest("base64url").slice(0, 12);
    const address = name.startsWith("chunk-")
      ? name
      : `${name.slice(0, -extname(name).length)}-${digest}${extname(name)}`;
    byAddress.set(address, { body, type: TYPES[extname(name)] ?? "application/octet-stream" });
    urls.set(name, `/assets/${address}`);
  }
  return { url: (name) => urls.get(name) ?? `/assets/${name}`, get: (name) => byAddress.get(name) };
}
