/**
 * What the ssh library leaves out of a server. It stands in one place, since it reaches into the library (ssh2 1.17.0,
 * by the names below).
 *
 *   out   A channel with two outputs that both wait for the client's window sends one of them twice and the other
 *         never. The library minds the window, which a client may make 4 GB, and not what its socket still holds. A
 *         client that takes packets of no bytes makes it send them for ever. Here both outputs wait in one line, until
 *         there is a window and the socket has room.
 *   in    A client that sends more than the window it was given is hung up on.
 *   why   Only a banner (RFC 4252, 5.4) tells a client why it is not let in. The library knows one banner only, a
 *         fixed one.
 */
import type { Socket } from "node:net";
import type { Connection, ServerChannel } from "ssh2";

/** Bytes that may wait in a socket before its channels are held back. */
const MOST_IN_SOCKET = 256 * 1024;
/**
 * Bytes from a client that may wait here. The library gives a window of 2 MiB, and another one when half of that has
 * been used while as much waits here.
 */
const MOST_TAKEN = 5 * 1024 * 1024;
/** Bytes of the smallest packet, whatever a client asks for. */
const LEAST_PACKET = 1024;
const STDERR = 1;
const USERAUTH_BANNER = 53;

interface Inside {
  readonly outgoing: { readonly id: number; window: number; readonly packetSize: number; readonly state: string };
  readonly _client: {
    readonly _protocol: {
      channelData(id: number, data: Buffer): void;
      channelExtData(id: number, data: Buffer, type: number): void;
    };
  };
  readonly readableLength: number;
  readonly stderr: { _write: Write };
  _waitWindow: boolean;
  /** The library calls this when the window has grown. */
  _chunkcb: () => void;
  _write: Write;
  push(data: Buffer | null): boolean;
}

type Write = (data: Buffer, encoding: string, done: () => void) => void;

interface Waiting {
  readonly send: (piece: Buffer) => void;
  left: Buffer;
  readonly done: () => void;
}

/** `channel`, over `socket`, with flow control both ways. To be called before anything is written. */
export function held(channel: ServerChannel, socket: Socket): ServerChannel {
  const inside = channel as unknown as Inside;
  const { outgoing, stderr, _client } = inside;
  const { _protocol: protocol } = _client;
  const waiting: Waiting[] = [];
  let resting = false;
  const go = () => {
    for (let [first] = waiting; first && !resting; [first] = waiting) {
      if (outgoing.state === "open" && first.left.length > 0) {
        if (outgoing.window === 0) {
          inside._chunkcb = go;
          inside._waitWindow = true;
          return;
        }
        if (socket.writableLength > MOST_IN_SOCKET) {
          resting = true;
          socket.once("drain", () => {
            resting = false;
            go();
          });
          return;
        }
        const most = Math.min(outgoing.window, Math.max(outgoing.packetSize, LEAST_PACKET));
        const piece = first.left.subarray(0, most);
        first.left = first.left.subarray(piece.length);
        outgoing.window -= piece.length;
        first.send(piece);
        continue;
      }
      waiting.shift();
      first.done();
    }
  };
  const writing =
    (send: (piece: Buffer) => void): Write =>
    (left, _, done) => {
      waiting.push({ send, left, done });
      if (waiting.length === 1) go();
    };
  inside._write = writing((piece) => protocol.channelData(outgoing.id, piece));
  stderr._write = writing((piece) => protocol.channelExtData(outgoing.id, piece, STDERR));
  const push = inside.push.bind(inside);
  inside.push = (data) => {
    if (data === null || inside.readableLength <= MOST_TAKEN) return push(data);
    socket.destroy();
    return false;
  };
  return channel;
}

interface Protocol {
  /** Present while keys are exchanged: nothing of ours may be sent then. */
  readonly _kexinit: unknown;
  readonly _cipher: { encrypt(packet: Buffer): void };
  readonly _packetRW: {
    readonly write: {
      readonly allocStart: number;
      alloc(length: number): Buffer;
      finalize(packet: Buffer): Buffer;
    };
  };
}

/** Sends `text` to a client that is not let in. */
export function sendBanner(connection: Connection, text: string): void {
  const { _protocol: protocol } = connection as unknown as { readonly _protocol: Protocol };
  if (protocol._kexinit !== undefined) return;
  const words = Buffer.from(`${text}\r\n`);
  const { write } = protocol._packetRW;
  const packet = write.alloc(1 + 4 + words.length + 4);
  let at = write.allocStart;
  packet[at++] = USERAUTH_BANNER;
  at = packet.writeUInt32BE(words.length, at);
  at += words.copy(packet, at);
  packet.writeUInt32BE(0, at); // no language tag
  protocol._cipher.encrypt(write.finalize(packet));
}
