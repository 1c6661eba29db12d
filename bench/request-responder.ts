/**
 * The least HTTP/1.1 server that a buildlet's API needs: one connection, requests one after another, bodies thrown away.
 *
 * Small on purpose, so that one process can play thousands of machines; it trusts its peer to send what the protocol says.
 */
import type { Socket } from "node:net";
import { fieldValues, type HeadReader, type RequestHead, requestHeadReader } from "../src/wire/revdial/http-head.ts";

/** The whole answer as it goes over the wire, made once per kind of answer; or what has the connection from then on; undefined closes it. */
export type Answer = (head: RequestHead) => Buffer | TakeOver | undefined;
export type TakeOver = (socket: Socket, rest: Uint8Array) => void;

const CONTINUE = Buffer.from("HTTP/1.1 100 Continue\r\n\r\n");

export function okAnswer(body: string, headers = ""): Buffer {
  return Buffer.from(`HTTP/1.1 200 OK\r\n${headers}Content-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`);
}

export function execAnswer(output: string): Buffer {
  const chunk = output === "" ? "" : `${Buffer.byteLength(output).toString(16)}\r\n${output}\r\n`;
  const head = "HTTP/1.1 200 OK\r\nTrailer: Process-State\r\nTransfer-Encoding: chunked\r\n\r\n";
  return Buffer.from(`${head}${chunk}0\r\nProcess-State: ok\r\n\r\n`);
}

/** An answer of `execAnswer` without its end: the command goes on. */
export function beginningOf(answer: Buffer): Buffer {
  return answer.subarray(0, answer.lastIndexOf("0\r\nProcess-State"));
}

/** Answers what comes over `socket`, beginning with `first`, until the other side hangs up. */
export function respond(socket: Socket, first: Uint8Array, answer: Answer): void {
  let reader: HeadReader<RequestHead> = requestHeadReader();
  let body: { readonly head: RequestHead; readonly drain: Drain } | undefined;

  function take(chunk: Uint8Array): void {
    for (let rest = chunk; rest.length > 0; ) {
      if (!body) {
        const read = reader.push(rest);
        if (!read) return;
        reader = requestHeadReader();
        body = { head: read.head, drain: drainOf(read.head) };
        if (fieldValues(read.head, "expect").length > 0) socket.write(CONTINUE);
        rest = read.rest;
      }
      const used = body.drain(rest);
      if (used === undefined) return;
      const said = answer(body.head);
      body = undefined;
      if (!said) {
        socket.destroy();
        return;
      }
      if (typeof said === "function") {
        socket.off("data", take);
        said(socket, rest.subarray(used));
        return;
      }
      socket.write(said);
      if (used === 0 && rest.length === 0) return;
      rest = rest.subarray(used);
    }
  }

  socket.on("data", take);
  take(first);
}

/** Swallows a body: gives undefined while more has to come, then how much of the last chunk belonged to it. */
type Drain = (chunk: Uint8Array) => number | undefined;

function drainOf(head: RequestHead): Drain {
  if (/chunked/i.test(fieldValues(head, "transfer-encoding")[0] ?? "")) return chunkedDrain();
  let left = Number(fieldValues(head, "content-length")[0] ?? 0);
  return (chunk) => {
    if (chunk.length < left) {
      left -= chunk.length;
      return undefined;
    }
    return left;
  };
}

const LF = 10;

function chunkedDrain(): Drain {
  let line = "";
  let state: "size" | "data" | "trailer" = "size";
  let left = 0;
  return (chunk) => {
    for (let at = 0; at < chunk.length; ) {
      if (state === "data") {
        const skipped = Math.min(left, chunk.length - at);
        left -= skipped;
        at += skipped;
        if (left === 0) state = "size";
        continue;
      }
      const end = chunk.indexOf(LF, at);
      line += Buffer.from(chunk.subarray(at, end === -1 ? undefined : end)).toString("latin1");
      if (end === -1) return undefined;
      at = end + 1;
      const text = line.trim();
      line = "";
      if (state === "trailer") {
        if (text === "") return at;
        continue;
      }
      const size = Number.parseInt(text, 16);
      if (size === 0) state = "trailer";
      else {
        state = "data";
        left = size + 2; // with the line break behind it
      }
    }
    return undefined;
  };
}
