/**
 * POST /connect-ssh: a tunnel from this connection to the machine's own sshd, for a person who debugs on it.
 *
 * The request has no body; X-Go-Ssh-User with X-Go-Authorized-Key puts the key into that user's authorized_keys, once.
 * Answers 101 and then carries bytes until either side ends. The sshd is the owner's to start: an agent that opened
 * one on a lent machine by itself would open a door that its owner does not know of.
 */
import { appendFile, mkdir, readFile } from "node:fs/promises";
import { STATUS_CODES } from "node:http";
import { connect, type Socket } from "node:net";
import { homedir, userInfo } from "node:os";
import { join } from "node:path";
import { messageOf } from "../../farm/errors.ts";
import { seconds } from "../../farm/ids.ts";
import { encodeResponseHead, fieldValues, type ReadHead, type RequestHead } from "../../wire/revdial/http-head.ts";
import type { ApiDeps } from "./api-deps.ts";
import { ApiError, fsReason } from "./api-error.ts";
import { sameText } from "./same-text.ts";

const DIAL_TRIES = 5;

/** Serves a request whose `head`, and `rest` behind it, were read from `socket` already. */
export async function connectSsh(socket: Socket, { head, rest }: ReadHead<RequestHead>, deps: ApiDeps): Promise<void> {
  try {
    checkRequest(head, deps.password);
    const [user] = fieldValues(head, "X-Go-Ssh-User");
    const [key] = fieldValues(head, "X-Go-Authorized-Key");
    if (user && key) await authorize(user, key);
    const ssh = await dialSshd(deps);
    socket.write(
      encodeResponseHead(101, "Switching Protocols", [
        ["Upgrade", "ssh"],
        ["Connection", "Upgrade"],
      ]),
    );
    if (rest.length > 0) ssh.write(rest);
    ssh.on("error", () => socket.destroy());
    socket.once("close", () => ssh.destroy());
    ssh.pipe(socket);
    socket.pipe(ssh);
  } catch (error) {
    const status = error instanceof ApiError ? error.status : 400;
    const body = Buffer.from(`${messageOf(error)}\n`);
    socket.write(
      encodeResponseHead(status, STATUS_CODES[status] ?? "", [
        ["Content-Type", "text/plain; charset=utf-8"],
        ["Content-Length", String(body.length)],
        ["Connection", "close"],
      ]),
    );
    socket.end(body);
  }
}

function checkRequest(head: RequestHead, password: string): void {
  if (password !== "") {
    const given = Buffer.from(
      (fieldValues(head, "Authorization")[0] ?? "").replace(/^Basic /, ""),
      "base64",
    ).toString();
    if (!sameText(given.replace(/^[^:]*:/, ""), password)) throw new ApiError(403, "invalid password");
  }
  const length = fieldValues(head, "Content-Length")[0] ?? "0";
  if (length !== "0" || fieldValues(head, "Transfer-Encoding").length > 0) {
    throw new ApiError(400, "Cannot open an ssh tunnel: want a request without body");
  }
}

async function authorize(user: string, key: string): Promise<void> {
  if (user !== userInfo().username) {
    throw new ApiError(400, `Cannot authorize ${JSON.stringify(user)}: this buildlet runs as ${userInfo().username}`);
  }
  const dir = join(homedir(), ".ssh");
  const path = join(dir, "authorized_keys");
  try {
    await mkdir(dir, { recursive: true, mode: 0o700 });
    const before = await readFile(path, "utf8").catch(() => "");
    if (before.split("\n").includes(key.trim())) return;
    await appendFile(path, `${before === "" || before.endsWith("\n") ? "" : "\n"}${key.trim()}\n`, { mode: 0o600 });
  } catch (error) {
    throw new ApiError(400, `Cannot write ~/.ssh/authorized_keys: ${fsReason(error)}`, { cause: error });
  }
}

async function dialSshd(deps: ApiDeps): Promise<Socket> {
  const port = deps.sshPort;
  for (let attempt = 1; ; attempt++) {
    try {
      return await new Promise<Socket>((resolve, reject) => {
        const socket = connect(port, "localhost");
        socket.once("connect", () => resolve(socket));
        socket.once("error", reject);
      });
    } catch (error) {
      if (attempt === DIAL_TRIES)
        throw new ApiError(502, `Cannot reach sshd on localhost:${port}: ${messageOf(error)}`, { cause: error });
      await deps.clock.sleep(seconds(1));
    }
  }
}
