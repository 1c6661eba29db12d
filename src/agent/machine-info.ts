/** What a machine tells about itself beyond the protocol: for people, and so that the farm knows which agent runs. */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { availableParallelism, endianness, hostname, totalmem } from "node:os";
import { goarch, goos } from "../farm/go-platform.ts";

/** The system in Go's words: `linux-amd64`. */
export function goSystem(): string {
  return `${goos(process.platform)}-${goarch(process.arch, endianness())}`;
}

/** The platform for people: `linux/amd64 Debian GNU/Linux 12 (bookworm), 2 cores, 4 GiB`. */
export function platformText(): string {
  const memory = totalmem() / 1024 ** 3;
  const size = memory < 10 ? memory.toFixed(1).replace(/\.0$/, "") : memory.toFixed(0);
  const cores = availableParallelism();
  const system = [goSystem().replace("-", "/"), distribution()].filter((part) => part !== "").join(" ");
  return `${system}, ${cores} ${cores === 1 ? "core" : "cores"}, ${size} GiB`;
}

function distribution(): string {
  if (process.platform !== "linux") return "";
  try {
    const [, name = ""] = /^PRETTY_NAME="?([^"\n]*)"?$/m.exec(readFileSync("/etc/os-release", "utf8")) ?? [];
    return name;
  } catch {
    return "";
  }
}

/** The SHA-256 of the running program in hex; "" when it cannot be read. */
export function programDigest(path: string | undefined): string {
  if (path === undefined) return "";
  try {
    return createHash("sha256").update(readFileSync(path)).digest("hex");
  } catch {
    return "";
  }
}

/** The name that people see: the flag, HOSTNAME, the system's, or `buildlet`. Never more than one line. */
export function machineName(flag: string, env: string | undefined): string {
  const name = flag || env || hostname() || "buildlet";
  return (
    [...name]
      .filter((c) => c >= " " && c !== "\x7f")
      .join("")
      .trim() || "buildlet"
  );
}
