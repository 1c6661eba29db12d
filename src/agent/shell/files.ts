/**
 * The files of this machine over SFTP (wire/sftp/sftp.ts), for `sftp` and `scp`. A relative path begins at the work
 * dir.
 *
 * A client that may open a shell here may do with files what that shell could. So only the system refuses paths.
 * Requests are answered one after another, in their order. While the reader of the answers is behind, none is taken.
 */
import type { Dirent, Stats } from "node:fs";
import { constants } from "node:fs";
import * as fs from "node:fs/promises";
import { isAbsolute, join, resolve } from "node:path";
import { errnoOf, messageOf } from "../../farm/errors.ts";
import type { ShellFrame } from "../../wire/buildlet-api/shell.ts";
import type { ShellLine } from "../../wire/buildlet-api/shell-line.ts";
import {
  type Attributes,
  attributes,
  type Fields,
  MAX_PACKET,
  OPEN,
  packet,
  SftpError,
  SftpReader,
  STATUS,
  status,
  TYPE,
  text,
  u32,
  VERSION,
} from "../../wire/sftp/sftp.ts";
import { DONE, type Opened } from "./opened.ts";

/** The most files and listings that are open at a time. */
const MOST_HANDLES = 256;
const READ_LIMIT = MAX_PACKET - 1024;
/** The most names in one answer to READDIR. */
const NAMES = 100;
const POSIX_RENAME = "posix-rename@openssh.com";

type Handle =
  | { readonly kind: "file"; readonly file: fs.FileHandle; readonly append: boolean }
  | { readonly kind: "folder"; readonly path: string; readonly left: Dirent[] };

export function serveFiles(line: ShellLine, { workDir }: { readonly workDir: string }): Opened {
  const service = new FileService(workDir);
  const reader = new SftpReader();
  let working = Promise.resolve();
  line.send({ kind: "started", started: { terminal: null, note: "" } });
  const end = () => {
    line.send({ kind: "exit", exit: DONE });
    line.end();
  };
  const answer = async (packets: readonly Fields[]) => {
    for (const request of packets) {
      line.send({ kind: "data", bytes: await service.answer(request) });
      await line.drained();
    }
  };
  const take = (frame: ShellFrame) => {
    if (frame.kind === "eof") {
      void working.then(end);
      return;
    }
    if (frame.kind !== "data") return;
    try {
      const packets = reader.push(frame.bytes);
      if (packets.length === 0) return;
      line.pause();
      working = working.then(() => answer(packets)).then(() => line.resume());
    } catch (error) {
      if (!(error instanceof SftpError)) throw error;
      line.destroy();
    }
  };
  return { take, kill: () => working.then(() => service.close()) };
}

class FileService {
  readonly #workDir: string;
  readonly #handles = new Map<string, Handle>();
  #count = 0;

  constructor(workDir: string) {
    this.#workDir = workDir;
  }

  async answer(request: Fields): Promise<Buffer> {
    const { id, type } = request;
    try {
      if (type === TYPE.init) return packet(TYPE.version, VERSION, text(POSIX_RENAME), text("1"));
      return await this.#answer(request);
    } catch (error) {
      if (error instanceof SftpError) return status(id, STATUS.badMessage, error.message);
      const errno = errnoOf(error);
      const code = CODES[errno] ?? STATUS.failure;
      return status(id, code, code === STATUS.failure ? errno || messageOf(error) : (WORDS[code] ?? errno));
    }
  }

  async close(): Promise<void> {
    for (const handle of this.#handles.values()) {
      if (handle.kind === "file") await handle.file.close().catch(() => {});
    }
    this.#handles.clear();
  }

  async #answer(request: Fields): Promise<Buffer> {
    const { id, type } = request;
    switch (type) {
      case TYPE.open:
        return await this.#open(id, this.#path(request), request.u32(), request.attributes());
      case TYPE.opendir: {
        const path = this.#path(request);
        return this.#opened(id, { kind: "folder", path, left: await fs.readdir(path, { withFileTypes: true }) });
      }
      case TYPE.close: {
        const key = request.text();
        const handle = this.#handle(key);
        this.#handles.delete(key);
        if (handle.kind === "file") await handle.file.close();
        return done(id);
      }
      case TYPE.read: {
        const { file } = this.#file(request);
        const at = request.u64();
        const buffer = Buffer.allocUnsafe(Math.min(request.u32(), READ_LIMIT));
        const { bytesRead } = await file.read(buffer, 0, buffer.length, at);
        if (bytesRead === 0) return status(id, STATUS.eof, "End of file");
        return packet(TYPE.data, id, text(buffer.subarray(0, bytesRead)));
      }
      case TYPE.write: {
        const { file, append } = this.#file(request);
        const at = request.u64();
        const bytes = request.bytes();
        await writeAll(file, bytes, append ? null : at);
        return done(id);
      }
      case TYPE.stat:
        return packet(TYPE.attributes, id, attributes(attributesOf(await fs.stat(this.#path(request)))));
      case TYPE.lstat:
        return packet(TYPE.attributes, id, attributes(attributesOf(await fs.lstat(this.#path(request)))));
      case TYPE.fstat:
        return packet(TYPE.attributes, id, attributes(attributesOf(await this.#file(request).file.stat())));
      case TYPE.setstat: {
        const path = this.#path(request);
        await change(request.attributes(), {
          truncate: (size) => fs.truncate(path, size),
          chmod: (mode) => fs.chmod(path, mode),
          chown: (uid, gid) => fs.chown(path, uid, gid),
          utimes: (accessed, modified) => fs.utimes(path, accessed, modified),
        });
        return done(id);
      }
      case TYPE.fsetstat: {
        const { file } = this.#file(request);
        await change(request.attributes(), file);
        return done(id);
      }
      case TYPE.readdir:
        return await this.#list(id, request.text());
      case TYPE.remove:
        await fs.unlink(this.#path(request));
        return done(id);
      case TYPE.mkdir: {
        const path = this.#path(request);
        await fs.mkdir(path, (request.attributes().mode ?? 0o777) & 0o7777);
        return done(id);
      }
      case TYPE.rmdir:
        await fs.rmdir(this.#path(request));
        return done(id);
      case TYPE.realpath:
        return names(id, [{ name: forward(resolve(this.#path(request))), long: "", attributes: {} }]);
      case TYPE.rename: {
        const [from, to] = [this.#path(request), this.#path(request)];
        // RENAME of this version never replaces a file. The extension does.
        if (await fs.lstat(to).catch(() => undefined)) return status(id, STATUS.failure, "It exists already");
        await fs.rename(from, to);
        return done(id);
      }
      case TYPE.readlink:
        return names(id, [{ name: await fs.readlink(this.#path(request)), long: "", attributes: {} }]);
      case TYPE.symlink: {
        const target = request.text();
        await fs.symlink(target, this.#path(request));
        return done(id);
      }
      case TYPE.extended: {
        if (request.text() !== POSIX_RENAME) return status(id, STATUS.unsupported, "Not supported");
        await fs.rename(this.#path(request), this.#path(request));
        return done(id);
      }
      default:
        return status(id, STATUS.unsupported, "Not supported");
    }
  }

  async #open(id: number, path: string, flags: number, { mode = 0o666 }: Attributes): Promise<Buffer> {
    const has = (flag: number) => (flags & flag) !== 0;
    const access = has(OPEN.write) ? (has(OPEN.read) ? constants.O_RDWR : constants.O_WRONLY) : constants.O_RDONLY;
    const how =
      access |
      (has(OPEN.append) ? constants.O_APPEND : 0) |
      (has(OPEN.create) ? constants.O_CREAT : 0) |
      (has(OPEN.truncate) ? constants.O_TRUNC : 0) |
      (has(OPEN.exclusive) ? constants.O_EXCL : 0) |
      (constants.O_NONBLOCK ?? 0); // a FIFO's other end may never be opened, and its thread would wait for it
    if (this.#handles.size >= MOST_HANDLES) return status(id, STATUS.failure, "Too many open files");
    const file = await fs.open(path, how, mode & 0o7777);
    return this.#opened(id, { kind: "file", file, append: has(OPEN.append) });
  }

  #opened(id: number, handle: Handle): Buffer {
    if (this.#handles.size >= MOST_HANDLES) return status(id, STATUS.failure, "Too many open files");
    const key = String(++this.#count);
    this.#handles.set(key, handle);
    return packet(TYPE.handle, id, text(key));
  }

  async #list(id: number, key: string): Promise<Buffer> {
    const handle = this.#handle(key);
    if (handle.kind !== "folder") throw new SftpError("Cannot list: the handle is a file's");
    const some = handle.left.splice(0, NAMES);
    if (some.length === 0) return status(id, STATUS.eof, "End of file");
    const found = await Promise.all(
      some.map(async ({ name }) => {
        const stats = await fs.lstat(join(handle.path, name)).catch(() => undefined); // it may be gone by now
        return { name, long: stats ? longName(name, stats) : name, attributes: stats ? attributesOf(stats) : {} };
      }),
    );
    return names(id, found);
  }

  #path(request: Fields): string {
    const given = request.text();
    if (given.includes("\0")) throw new SftpError("Cannot use a path with a zero byte");
    // A Windows client is shown /C:/x for C:\x.
    const path = process.platform === "win32" ? given.replace(/^\/(?=[A-Za-z]:)/, "") : given;
    return isAbsolute(path) ? path : join(this.#workDir, path);
  }

  #handle(key: string): Handle {
    const handle = this.#handles.get(key);
    if (!handle) throw new SftpError(`There is no handle ${JSON.stringify(key.slice(0, 40))}`);
    return handle;
  }

  #file(request: Fields): Handle & { kind: "file" } {
    const handle = this.#handle(request.text());
    if (handle.kind !== "file") throw new SftpError("Cannot do that with a folder's handle");
    return handle;
  }
}

const CODES: { readonly [errno: string]: number } = {
  ENOENT: STATUS.noSuchFile,
  ENOTDIR: STATUS.noSuchFile,
  EACCES: STATUS.denied,
  EPERM: STATUS.denied,
  EROFS: STATUS.denied,
};
const WORDS: { readonly [code: number]: string } = {
  [STATUS.noSuchFile]: "No such file or directory",
  [STATUS.denied]: "Permission denied",
};

const done = (id: number) => status(id, STATUS.ok, "");

function forward(path: string): string {
  return process.platform === "win32" ? `/${path.replaceAll("\\", "/")}` : path;
}

interface Name {
  readonly name: string;
  /** The line that `ls -l` would print. */
  readonly long: string;
  readonly attributes: Attributes;
}

function names(id: number, list: readonly Name[]): Buffer {
  const fields = list.flatMap((each) => [text(each.name), text(each.long || each.name), attributes(each.attributes)]);
  return packet(TYPE.name, id, u32(list.length), ...fields);
}

function attributesOf({ size, uid, gid, mode, atimeMs, mtimeMs }: Stats): Attributes {
  const times = { accessed: Math.floor(atimeMs / 1000), modified: Math.floor(mtimeMs / 1000) };
  return { size, owner: { uid, gid }, mode, times };
}

function longName(name: string, { mode, uid, gid, size, mtimeMs, nlink }: Stats): string {
  const kind = { [constants.S_IFDIR]: "d", [constants.S_IFLNK]: "l" }[mode & constants.S_IFMT] ?? "-";
  const bits = [..."rwxrwxrwx"].map((letter, at) => (mode & (0o400 >> at) ? letter : "-")).join("");
  const date = new Date(mtimeMs).toISOString().slice(0, 16).replace("T", " ");
  return `${kind}${bits} ${nlink} ${uid} ${gid} ${size} ${date} ${name}`;
}

interface Changes {
  truncate(size: number): Promise<void>;
  chmod(mode: number): Promise<void>;
  chown(uid: number, gid: number): Promise<void>;
  utimes(accessed: number, modified: number): Promise<void>;
}

async function change({ size, mode, owner, times }: Attributes, target: Changes): Promise<void> {
  if (size !== undefined) await target.truncate(size);
  if (mode !== undefined) await target.chmod(mode & 0o7777);
  if (owner) await target.chown(owner.uid, owner.gid);
  if (times) await target.utimes(times.accessed, times.modified);
}

async function writeAll(file: fs.FileHandle, bytes: Buffer, at: number | null): Promise<void> {
  for (let written = 0; written < bytes.length; ) {
    const position = at === null ? null : at + written;
    written += (await file.write(bytes, written, bytes.length - written, position)).bytesWritten;
  }
}
