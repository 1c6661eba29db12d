import fc from "fast-check";
import { expect, test } from "vitest";
import {
  type ControlLine,
  ControlLineError,
  ControlLineReader,
  encodeControlLine,
  MAX_CONTROL_LINE,
} from "./control-line.ts";
import {
  encodeRequestHead,
  encodeResponseHead,
  fieldValues,
  HeadError,
  requestHeadReader,
  responseHeadReader,
} from "./http-head.ts";
import { connPath, encodeAgentInfo, parseAgentInfo, parseConnPath } from "./registration.ts";

const utf8 = new TextEncoder();
const ID = "79f91571b1c3c1b03429bbb5d727dd68";

/** `bytes` cut at random places, empty pieces included. */
function cut(bytes: Uint8Array, places: readonly number[]): Uint8Array[] {
  const sorted = [...places.map((p) => p % (bytes.length + 1)), 0, bytes.length].sort((a, b) => a - b);
  return sorted.slice(1).map((end, i) => bytes.subarray(sorted[i], end));
}

test("encodeControlLine() writes the known lines byte for byte", () => {
  const line = (l: ControlLine) => new TextDecoder().decode(encodeControlLine(l));
  expect([
    line({ command: "keep-alive" }),
    line({ command: "conn-ready", connPath: `/revdial?revdial.dialer=${ID}` }),
    line({ command: "pickup-failed", connPath: "", err: "revdial: cannot dial" }),
  ]).toEqual([
    '{"command":"keep-alive"}\n',
    `{"command":"conn-ready","connPath":"/revdial?revdial.dialer=${ID}"}\n`,
    '{"command":"pickup-failed","err":"revdial: cannot dial"}\n',
  ]);
});

test("[coordinator 17] encodeControlLine() never makes a line over 4096 bytes, whatever the reason holds", () => {
  fc.assert(
    fc.property(fc.string({ unit: "grapheme", maxLength: 5000 }), fc.integer({ min: 1, max: 3 }), (text, times) => {
      const bytes = encodeControlLine({
        command: "pickup-failed",
        connPath: connPath(ID, 1, "P0000000aa"),
        err: text.repeat(times),
      });
      expect(bytes.length).toBeLessThanOrEqual(MAX_CONTROL_LINE);
      const [line] = new ControlLineReader().push(bytes);
      expect(line?.connPath).toBe(connPath(ID, 1, "P0000000aa"));
    }),
    { numRuns: 200 },
  );
  const full = encodeControlLine({ command: "pickup-failed", err: "\u0001".repeat(9000) });
  expect(full.length).toBeGreaterThan(MAX_CONTROL_LINE - 7);
  expect(() => encodeControlLine({ command: "conn-ready", connPath: "/".repeat(4096) })).toThrow(ControlLineError);
});

test("ControlLineReader reads lines however they are cut", () => {
  const lines: ControlLine[] = [
    { command: "keep-alive" },
    { command: "conn-ready", connPath: connPath(ID, 7, "P0000000aa") },
    { command: "pickup-failed", err: "käputt\n" },
  ];
  const bytes = Buffer.concat(lines.map(encodeControlLine));
  fc.assert(
    fc.property(fc.array(fc.nat(1000)), (places) => {
      const reader = new ControlLineReader();
      expect(cut(bytes, places).flatMap((piece) => reader.push(piece))).toEqual(lines);
    }),
  );
});

test("[coordinator 16] ControlLineReader passes unknown commands on and throws on what is no JSON object of strings", () => {
  const read = (text: string) => new ControlLineReader().push(utf8.encode(text));
  expect(read('{"command":"dance","connPath":"/x","more":[1]}\n')).toEqual([{ command: "dance", connPath: "/x" }]);
  expect(read("{}\r\n")).toEqual([{ command: "" }]);
  for (const bad of ["nope\n", "\n", "5\n", "null\n", "[]\n", '{"command":5}\n', '{"err":{}}\n', '{"command":"a"\n']) {
    expect(() => read(bad), bad).toThrow(ControlLineError);
  }
});

test("ControlLineReader takes a line of exactly 4096 bytes and refuses a longer one before its end has come", () => {
  const pad = (length: number) => `{"command":"${"x".repeat(length - 15)}"}\n`;
  expect(new ControlLineReader().push(utf8.encode(pad(MAX_CONTROL_LINE)))).toHaveLength(1);
  expect(() => new ControlLineReader().push(utf8.encode(pad(MAX_CONTROL_LINE + 1)))).toThrow(ControlLineError);
  const reader = new ControlLineReader();
  expect(reader.push(new Uint8Array(4095).fill(32))).toEqual([]);
  expect(() => reader.push(new Uint8Array(1))).toThrow(ControlLineError);
});

test("requestHeadReader() reads the registration of the original buildlet however it is cut, and gives back what follows", () => {
  const golden =
    "GET /reverse HTTP/1.1\r\nHost: \r\nUser-Agent: Go-http-client/1.1\r\nX-Go-Builder-Hostname: brånn\r\n" +
    "X-Go-Builder-Key: 4d8129e2963df29b29cab65e108397d1\r\nX-Go-Builder-Version: 29\r\n" +
    "X-Go-Host-Type: host-linux-amd64-localdev\r\nX-Revdial-Version: 2\r\n\r\n";
  const bytes = utf8.encode(`${golden}rest`);
  fc.assert(
    fc.property(fc.array(fc.nat(1000)), (places) => {
      const reader = requestHeadReader();
      const pieces = cut(bytes, places);
      for (const [at, piece] of pieces.entries()) {
        const read = reader.push(piece);
        if (!read) continue;
        const rest = Buffer.concat([read.rest, ...pieces.slice(at + 1)]);
        expect([read.head.method, read.head.target, read.head.version, rest.toString()]).toEqual([
          "GET", "/reverse", "HTTP/1.1", "rest",
        ]); // biome-ignore format: a row
        expect(read.head.fields).toEqual([
          ["Host", ""],
          ["User-Agent", "Go-http-client/1.1"],
          ["X-Go-Builder-Hostname", "brånn"],
          ["X-Go-Builder-Key", "4d8129e2963df29b29cab65e108397d1"],
          ["X-Go-Builder-Version", "29"],
          ["X-Go-Host-Type", "host-linux-amd64-localdev"],
          ["X-Revdial-Version", "2"],
        ]);
        return;
      }
      throw new Error("No head came");
    }),
  );
});

test("[coordinator 10] responseHeadReader() reads HTTP/0.0 101 in two records", () => {
  const reader = responseHeadReader();
  expect(reader.push(utf8.encode("HTTP/0.0 101 Switching Protocols\r\n"))).toBeUndefined();
  expect(reader.push(utf8.encode("\r\n"))?.head).toEqual({
    version: "HTTP/0.0",
    status: 101,
    reason: "Switching Protocols",
    fields: [],
  });
});

test("HeadReader refuses heads that are too large or malformed", () => {
  const kind = (text: string, limit?: number) => {
    try {
      requestHeadReader(limit).push(utf8.encode(text));
      return "ok";
    } catch (error) {
      return error instanceof HeadError ? error.kind : error;
    }
  };
  expect([
    kind("GET / HTTP/1.1\n\n", 16),
    kind("GET / HTTP/1.1\n\n", 15),
    kind("x".repeat(16), 15),
    kind("GET  / HTTP/1.1\r\n\r\n"),
    kind("GET / HTTP/1.1\r\n folded\r\n\r\n"),
    kind("GET / HTTP/1.1\r\nName : v\r\n\r\n"),
    kind("GET / HTTP/1.1\r\nno colon\r\n\r\n"),
    kind("\r\n\r\n"),
    kind("\u0016\u0003\u0001\n\n"),
  ]).toEqual(["ok", "too-large", "too-large", ...Array(6).fill("malformed")]);
});

test("encodeRequestHead() and encodeResponseHead() write plain heads and let no line break in", () => {
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  expect([
    text(encodeRequestHead("GET", connPath(ID, 2, "P0000000aa"), [["Host", ""]])),
    text(encodeResponseHead(101, "Switching Protocols")),
  ]).toEqual([
    `GET /revdial?revdial.dialer=${ID}&barnraiser.coordinator=P0000000aa&barnraiser.dial=2 HTTP/1.1\r\nHost: \r\n\r\n`,
    "HTTP/1.1 101 Switching Protocols\r\n\r\n",
  ]);
  expect(() => encodeRequestHead("GET", "/", [["A", "b\r\nC: d"]])).toThrow(HeadError);
});

test("fieldValues() keeps doubles in order and looks at names without case", () => {
  const head = requestHeadReader().push(utf8.encode("GET / HTTP/1.1\r\nA: 1\r\nb: 2\r\na:3 \r\n\r\n"))?.head;
  expect(head && fieldValues(head, "a")).toEqual(["1", "3"]);
});

test("parseConnPath() reads our paths and the plain one, and refuses ids of another shape", () => {
  expect([
    parseConnPath(connPath(ID, 12, "P0000000aa")),
    parseConnPath(`/revdial?revdial.dialer=${ID}`),
    parseConnPath(`/revdial?revdial.dialer=${ID.toUpperCase()}`),
    parseConnPath("/revdial"),
    parseConnPath(`/elsewhere?revdial.dialer=${ID}`),
    parseConnPath(`/revdial?revdial.dialer=${ID}&barnraiser.dial=-1`),
  ]).toEqual([
    { dialer: ID, coordinator: "P0000000aa", dial: 12 },
    { dialer: ID, coordinator: undefined, dial: undefined },
    undefined,
    undefined,
    undefined,
    { dialer: ID, coordinator: undefined, dial: undefined },
  ]);
});

test("parseAgentInfo() gives back what encodeAgentInfo() took, and shrugs at anything else", () => {
  fc.assert(
    fc.property(fc.string({ unit: "grapheme" }), fc.string(), (platform, digest) => {
      const info = { digest, platform, instance: "0123456789abcdef".repeat(2), resume: 1 };
      expect(parseAgentInfo(encodeAgentInfo(info))).toEqual(info);
    }),
  );
  const nothing = { digest: "", platform: "", instance: "", resume: 0 };
  expect(parseAgentInfo("1; platform=%zz; new=thing")).toEqual(nothing);
  expect(parseAgentInfo("instance=me; resume=-1")).toEqual(nothing);
});
