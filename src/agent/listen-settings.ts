/**
 * Where a buildlet that is dialled, instead of dialling, listens, and what it asks of clients.
 *
 * `AUTO` is port 5936, on loopback except on macOS. Off-cloud metadata is in the environment: META_password,
 * META_tls_cert and META_tls_key, each either the value or `@FILE`. Certificate and key come both or not at all;
 * with them the password is the SHA-1 of the key's PEM, which the maker of the machine knows, too.
 */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import type { Environment } from "../dial/proxy.ts";

export interface ListenSettings {
  /** The address to listen on; undefined: all addresses. */
  readonly host: string | undefined;
  readonly port: number;
  readonly password: string;
  readonly tls: { readonly cert: string; readonly key: string } | undefined;
}

export function listenSettings(flag: string, env: Environment, platform: NodeJS.Platform): ListenSettings {
  const cert = metadata(env, "META_tls_cert");
  const key = metadata(env, "META_tls_key");
  if ((cert === "") !== (key === ""))
    throw new Error("Cannot listen: want both META_tls_cert and META_tls_key, or neither");
  const address = flag !== "AUTO" ? flag : platform === "darwin" ? ":5936" : "localhost:5936";
  const [, bracketed, plain = "", port] = /^(?:\[([^\]]*)\]|([^:]*)):(\d{1,5})$/.exec(address) ?? [];
  if (port === undefined || Number(port) > 65535) {
    throw new Error(`Cannot listen on ${JSON.stringify(flag)}: want HOST:PORT or :PORT`);
  }
  return {
    host: (bracketed ?? plain) || undefined,
    port: Number(port),
    password: key === "" ? metadata(env, "META_password") : createHash("sha1").update(key).digest("hex"),
    tls: key === "" ? undefined : { cert, key },
  };
}

function metadata(env: Environment, name: string): string {
  const value = env[name] ?? "";
  return value.startsWith("@") ? readFileSync(value.slice(1), "utf8") : value;
}
