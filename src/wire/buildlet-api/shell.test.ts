import fc from "fast-check";
import { expect, test } from "vitest";
import {
  encodeShellFrame,
  HEADER,
  loopbackAddresses,
  MAX_BODY,
  type ShellFrame,
  ShellFrameError,
  ShellFrameReader,
} from "./shell.ts";

const terminal = { name: "xterm", columns: 80, rows: 24 };
const FRAMES: readonly ShellFrame[] = [
  { kind: "open", opening: { what: "shell", command: "echo ü", terminal, env: ["A=B"] } },
  { kind: "open", opening: { what: "shell", command: null, terminal: null, env: [] } },
  { kind: "open", opening: { what: "files" } },
  { kind: "open", opening: { what: "dial", host: "localhost", port: 80 } },
  { kind: "data", bytes: Buffer.from([0, 255, 13, 10]) },
  { kind: "errors", bytes: Buffer.from("bad") },
  { kind: "resize", columns: 132, rows: 50 },
  { kind: "signal", signal: "INT" },
  { kind: "eof" },
  { kind: "started", started: { terminal: "script", note: "no window" } },
  { kind: "exit", exit: { code: null, signal: "KILL", problem: "" } },
  { kind: "exit", exit: { code: 7, signal: null, problem: "" } },
];

test("frames come out as they went in, however they are cut", () => {
  const whole = Buffer.concat(FRAMES.map(encodeShellFrame));
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 0, max: whole.length })), (given) => {
      const cuts = [0, ...given.sort((a, b) => a - b), whole.length];
      const reader = new ShellFrameReader();
      const read = cuts.slice(1).flatMap((end, at) => reader.push(whole.subarray(cuts[at], end)));
      expect(read).toEqual(FRAMES);
    }),
    { numRuns: 100 },
  );
});

test("the bytes of a frame are these", () => {
  expect(encodeShellFrame({ kind: "data", bytes: Buffer.from("hi") }).toString("hex")).toBe("01000000026869");
  expect(encodeShellFrame({ kind: "resize", columns: 80, rows: 24 }).toString("hex")).toBe("030000000400500018");
});

test("data that is long is cut, so that keys do not wait behind it", () => {
  const frames = new ShellFrameReader().push(encodeShellFrame({ kind: "data", bytes: Buffer.alloc(100_000, 1) }));
  expect(frames.map((frame) => ("bytes" in frame ? frame.bytes.length : 0))).toEqual([32_768, 32_768, 32_768, 1696]);
});

test("what is no frame is refused", () => {
  const framed = (kind: number, body: string, length = Buffer.byteLength(body)) => {
    const head = Buffer.alloc(HEADER);
    head.writeUInt8(kind, 0);
    head.writeUInt32BE(length, 1);
    return Buffer.concat([head, Buffer.from(body)]);
  };
  const bad = [
    framed(99, ""),
    framed(1, "", MAX_BODY + 1),
    framed(3, "abc"),
    framed(0, "nonsense"),
    framed(0, "null"),
    framed(0, '{"what":"shell","command":"a\\u0000b"}'),
    framed(0, '{"what":"dial","host":"localhost","port":0}'),
    framed(0, '{"what":"shell","command":null,"terminal":{"name":"a b","columns":1,"rows":1}}'),
  ];
  for (const bytes of bad) expect(() => new ShellFrameReader().push(bytes)).toThrow(ShellFrameError);
});

test("loopback is these names, literally", () => {
  expect(["localhost", "127.0.0.1", "::1", "LocalHost"].map((host) => loopbackAddresses(host)?.length)).toEqual([
    2, 1, 1, 2,
  ]);
  expect(
    ["127.0.0.2", "0.0.0.0", "::", "[::1]", "localhost.", "::ffff:127.0.0.1", "10.0.0.1"].map(loopbackAddresses),
  ).toEqual(Array(7).fill(undefined));
});
