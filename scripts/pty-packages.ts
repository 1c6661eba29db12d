/**
 * What machines need for terminals (src/agent/shell/pty.ts): for each platform one archive of @lydell/node-pty with that platform's
 * prebuilt part, as `node_modules/@lydell/…`, served beside the agents. Packed from what npm installed here, which is this platform's; the
 * other platforms' are installed by the flag that npm has for it, into VENDOR, by `npm run pty-packages`.
 */
import { execFile } from "node:child_process";
import { mkdir, readdir, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { gzipSync } from "node:zlib";
import { tarEnd, tarHeader, tarPadding } from "../src/wire/tar/tar-writer.ts";

const root = fileURLToPath(new URL("..", import.meta.url));
const VENDOR = join(root, "vendor", "pty");
const LIBRARY = "node-pty";
const PLATFORMS = ["darwin-arm64", "darwin-x64", "linux-arm64", "linux-x64", "win32-arm64", "win32-x64"];

/** Writes `pty-PLATFORM.tgz` into `folder` for each platform that is installed. */
export async function packPty(folder: string): Promise<void> {
  for (const platform of PLATFORMS) {
    for (const modules of [join(root, "node_modules"), join(VENDOR, platform, "node_modules")]) {
      const scope = join(modules, "@lydell");
      if (!(await stat(join(scope, `${LIBRARY}-${platform}`)).catch(() => undefined))) continue;
      const parts = [LIBRARY, `${LIBRARY}-${platform}`];
      await writeFile(join(folder, `pty-${platform}.tgz`), await packed(scope, parts));
      break;
    }
  }
}

async function packed(scope: string, parts: readonly string[]): Promise<Buffer> {
  const pieces: Buffer[] = [];
  for (const part of parts) {
    const names = (await readdir(join(scope, part), { recursive: true })).sort();
    for (const name of names) {
      const path = join(scope, part, name);
      const { size, mode } = await stat(path);
      if ((await stat(path)).isDirectory() || /\.(ts|md)$/.test(name)) continue;
      const stored = `node_modules/@lydell/${part}/${name.replaceAll("\\", "/")}`;
      // No times: the same package is the same archive.
      pieces.push(tarHeader({ type: "file", name: stored, mode: mode & 0o777, size, mtime: 0 }));
      pieces.push(await readFile(path), tarPadding(size));
    }
  }
  return gzipSync(Buffer.concat([...pieces, tarEnd()]), { level: 9 });
}

/** By npm, which checks what it gets against the registry's digests. */
async function install(): Promise<void> {
  const { dependencies } = JSON.parse(await readFile(join(root, "package.json"), "utf8"));
  const version: string = dependencies[`@lydell/${LIBRARY}`];
  for (const platform of PLATFORMS) {
    const [os = "", cpu = ""] = platform.split("-");
    const folder = join(VENDOR, platform);
    await mkdir(folder, { recursive: true });
    await writeFile(join(folder, "package.json"), "{}\n");
    const args = [
      "install",
      "--no-save",
      "--ignore-scripts",
      `--os=${os}`,
      `--cpu=${cpu}`,
      `@lydell/${LIBRARY}@${version}`,
    ];
    await promisify(execFile)("npm", args, { cwd: folder, shell: process.platform === "win32" });
    console.log(`${platform}  ${join(folder, "node_modules")}`);
  }
}

if (import.meta.main) await install();
