/**
 * What browsers fetch: scripts and style, read once when the farm starts, each under an address that holds a digest of its content, so that a
 * browser may keep it for ever. A script's imports of its own parts (`./chunk-ABC.js`) already carry a digest and keep their names.
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

/** The files of `folder` (dist/ui after `npm run build`). */
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
