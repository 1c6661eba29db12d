/**
 * Packets of SFTP version 3, as `sftp` and `scp` speak it inside an ssh channel.
 *
 *   offset  size  field
 *   0       4     length  u32 big-endian, of what follows; at most MAX_PACKET
 *   4       1     type    see TYPE
 *   5       4     id      u32, echoed in the answer; in INIT and VERSION the version stands here
 *   9       n     fields  u32, u64, strings (u32 length, bytes), attributes
 *
 * Paths are UTF-8. Of a SYMLINK's two paths the target comes first, as OpenSSH has it, not as the draft says.
 * Source: draft-ietf-secsh-filexfer-02. Errors: SftpError, after which the channel is of no use.
 */

export const VERSION = 3;
/** A client writes 32 KiB at a time; OpenSSH itself takes this much. */
export const MAX_PACKET: number = 256 * 1024;

export const TYPE = {
  init: 1,
  version: 2,
  open: 3,
  close: 4,
  read: 5,
  write: 6,
  lstat: 7,
  fstat: 8,
  setstat: 9,
  fsetstat: 10,
  opendir: 11,
  readdir: 12,
  remove: 13,
  mkdir: 14,
  rmdir: 15,
  realpath: 16,
  stat: 17,
  rename: 18,
  readlink: 19,
  symlink: 20,
  status: 101,
  handle: 102,
  data: 103,
  name: 104,
  attributes: 105,
  extended: 200,
} as const;

export const STATUS = {
  ok: 0,
  eof: 1,
  noSuchFile: 2,
  denied: 3,
  failure: 4,
  badMessage: 5,
  unsupported: 8,
} as const;

/** Bits of an OPEN. */
export const OPEN = { read: 1, write: 2, append: 4, create: 8, truncate: 16, exclusive: 32 } as const;

const HAS = { size: 1, owner: 2, mode: 4, times: 8, extended: 0x8000_0000 } as const;

/** What is absent was not said. Times are seconds since 1970. */
export interface Attributes {
  readonly size?: number;
  readonly owner?: { readonly uid: number; readonly gid: number };
  readonly mode?: number;
  readonly times?: { readonly accessed: number; readonly modified: number };
}

export class SftpError extends Error {
  override readonly name = "SftpError";
}

/** Takes bytes in any cut and gives the packets that are whole, without their length. */
export class SftpReader {
  #kept: Buffer = Buffer.alloc(0);

  push(chunk: Uint8Array): Fields[] {
    const bytes = this.#kept.length === 0 ? Buffer.from(chunk) : Buffer.concat([this.#kept, chunk]);
    const packets: Fields[] = [];
    let at = 0;
    while (bytes.length - at >= 4) {
      const length = bytes.readUInt32BE(at);
      if (length > MAX_PACKET || length < 5)
        throw new SftpError(`Cannot read a packet of ${length} bytes: want 5 to ${MAX_PACKET}`);
      if (bytes.length - at - 4 < length) break;
      packets.push(new Fields(bytes.subarray(at + 4, at + 4 + length)));
      at += 4 + length;
    }
    this.#kept = bytes.subarray(at);
    return packets;
  }
}

/** The fields of a packet, in their order. */
export class Fields {
  readonly type: number;
  /** The version, in INIT. */
  readonly id: number;
  readonly #bytes: Buffer;
  #at = 5;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
    this.type = bytes.readUInt8(0);
    this.id = bytes.readUInt32BE(1);
  }

  u32(): number {
    return this.#take(4).readUInt32BE(0);
  }

  /** Throws where a double has no such number: no file is that long. */
  u64(): number {
    const value = Number(this.#take(8).readBigUInt64BE(0));
    if (!Number.isSafeInteger(value)) throw new SftpError(`Cannot use the number ${value}: no file is that long`);
    return value;
  }

  bytes(): Buffer {
    return this.#take(this.u32());
  }

  text(): string {
    return this.bytes().toString("utf8");
  }

  attributes(): Attributes {
    const flags = this.u32();
    const has = (flag: number) => (flags & flag) !== 0;
    const attributes: Attributes = {
      ...(has(HAS.size) && { size: this.u64() }),
      ...(has(HAS.owner) && { owner: { uid: this.u32(), gid: this.u32() } }),
      ...(has(HAS.mode) && { mode: this.u32() }),
      ...(has(HAS.times) && { times: { accessed: this.u32(), modified: this.u32() } }),
    };
    if (has(HAS.extended)) for (let left = this.u32(); left > 0; left--) this.bytes();
    return attributes;
  }

  #take(length: number): Buffer {
    const end = this.#at + length;
    if (end > this.#bytes.length) throw new SftpError("Cannot read a packet: it ends in the middle of a field");
    const taken = this.#bytes.subarray(this.#at, end);
    this.#at = end;
    return taken;
  }
}

/** A packet of `fields`. */
export function packet(type: number, id: number, ...fields: readonly Uint8Array[]): Buffer {
  const length = 5 + fields.reduce((sum, field) => sum + field.length, 0);
  const head = Buffer.alloc(9);
  head.writeUInt32BE(length, 0);
  head.writeUInt8(type, 4);
  head.writeUInt32BE(id, 5);
  return Buffer.concat([head, ...fields]);
}

export function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value >>> 0, 0);
  return bytes;
}

export function text(value: string | Uint8Array): Buffer {
  const bytes = Buffer.from(value as string);
  return Buffer.concat([u32(bytes.length), bytes]);
}

export function attributes({ size, owner, mode, times }: Attributes): Buffer {
  const flags =
    (size === undefined ? 0 : HAS.size) |
    (owner === undefined ? 0 : HAS.owner) |
    (mode === undefined ? 0 : HAS.mode) |
    (times === undefined ? 0 : HAS.times);
  const parts = [u32(flags)];
  if (size !== undefined) {
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64BE(BigInt(size), 0);
    parts.push(bytes);
  }
  if (owner) parts.push(u32(owner.uid), u32(owner.gid));
  if (mode !== undefined) parts.push(u32(mode));
  if (times) parts.push(u32(times.accessed), u32(times.modified));
  return Buffer.concat(parts);
}

export function status(id: number, code: number, message: string): Buffer {
  return packet(TYPE.status, id, u32(code), text(message), text(""));
}
